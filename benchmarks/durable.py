"""What the store takes and holds: labels a second, bytes a prediction, and what size does to it."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text
from wire import post, send

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import IdSigner, ids_of
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.healing.labels.join import Joiner
from bento_selfheal.runner.runner import Runner
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry.spans import Telemetry

BATCH = 100
WIDTH = 10


def feedback_rate(port: int, store: SqlStore, labels: int) -> float:
    """Labels a second that `/feedback` acknowledges as durable, in batches of 100."""
    signer = IdSigner(store.meta("secret") or "")
    requests = []
    for _ in range(labels // BATCH):
        _, token = signer.issue(BATCH)
        items = [{"prediction_id": i, "label": n % 2} for n, i in enumerate(ids_of(token, BATCH))]
        requests.append(post("/feedback", json.dumps({"items": items}).encode()))
    before = store.ends()[1]
    timings = send(port, requests, connections=16)
    kept = store.ends()[1] - before
    if timings.failed or kept != labels:
        raise RuntimeError(f"{timings.failed} requests failed, {kept} of {labels} labels kept")
    return labels / timings.seconds


def log_costs(tag: str, url: str, state: Path, rows: int) -> dict[str, float]:
    """What the log takes and holds: rows a second and bytes a row of 10 features, in requests of
    so many rows, and rows a second that a runner reads again."""
    settings = Settings(model=tag, state_dir=state, store_url=url)
    prepare(settings)
    store, requests = open_store(settings), 200_000 // (rows + 19)
    signer, draw = IdSigner(store.meta("secret") or ""), np.random.default_rng(0)
    groups = [[_request(signer, draw, rows) for _ in range(200)] for _ in range(requests // 200)]
    empty, started = _log_size(store, url), time.perf_counter()
    for group in groups:
        store.append_predictions(group)
    spent = time.perf_counter() - started
    logged = len(groups) * 200 * rows
    size = (_log_size(store, url) - empty) / logged
    store.close()
    runner, started = Runner(settings, Telemetry()), time.perf_counter()
    while runner.step():
        pass
    read = time.perf_counter() - started
    runner.store.close()
    return {
        "rows_a_second": round(logged / spent),
        "bytes_a_row": round(size, 1),
        "runner_rows_a_second": round(logged / read),
    }


def _log_size(store: SqlStore, url: str) -> int:
    """Bytes on disk of the whole store."""
    if store.shared:
        engine = create_engine(url)
        with engine.connect() as c:
            size = c.execute(text("select pg_total_relation_size('predictions')")).scalar_one()
        engine.dispose()
        return int(size)
    file = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as c:
        c.execute("pragma wal_checkpoint(truncate)")
    return Path(file).stat().st_size


def _request(signer: IdSigner, draw: np.random.Generator, rows: int) -> PredictionRecord:
    features = draw.normal(size=(rows, WIDTH)).astype(np.float32)
    return PredictionRecord(signer.issue(rows)[0], features, features[:, 0].copy(), 1, time.time())


def fill(file: Path, predictions: int, labels: int) -> None:
    """Single-row predictions of the last 20 days, and labels for some of them, written at once."""
    now, draw = time.time(), np.random.default_rng(1)
    features = draw.normal(size=(1000, WIDTH)).astype("<f4")
    step = 20 * 86_400_000 / predictions
    first = int(now * 1000) - 20 * 86_400_000
    size = 4 * (WIDTH + 1)

    def keys() -> Any:
        for n in range(predictions):
            key = int(first + n * step).to_bytes(6, "big") + (n % 2**46).to_bytes(6, "big")
            yield (key, 1, 1, now, (n + 1) * size, features[n % 1000].tobytes(), b"\0\0\0?")

    def given() -> Any:
        for n in range(labels):
            n = n * (predictions // labels)
            key = int(first + n * step).to_bytes(6, "big") + (n % 2**46).to_bytes(6, "big")
            yield (key, 0, 0, n % 2, now, predictions)

    with closing(sqlite3.connect(file)) as c:
        c.execute("pragma synchronous=off")
        with c:
            c.executemany(
                'insert into predictions (request, "rows", version, time, upto, features, '
                "probabilities) values (?, ?, ?, ?, ?, ?, ?)",
                keys(),
            )
            c.executemany(
                'insert into feedback (request, "row", revision, label, time, "after") '
                "values (?, ?, ?, ?, ?, ?)",
                given(),
            )
        c.execute("pragma wal_checkpoint(truncate)")


def join_micros(store: SqlStore, rounds: int = 30) -> float:
    """Microseconds to join one label, found by way of both logs as the runner does."""
    signer, draw, joiner = (
        IdSigner(store.meta("secret") or ""),
        np.random.default_rng(2),
        Joiner(10),
    )
    spent = []
    for _ in range(rounds):
        asked = [_request(signer, draw, 1) for _ in range(BATCH)]
        store.append_predictions(asked)
        places = store.ends()
        store.add_feedback([FeedbackRecord(r.request, 0, 1, time.time()) for r in asked])
        started = time.perf_counter()
        entries = store.read_log(places[0], places[1])
        labels = [e for e in entries if isinstance(e, FeedbackRecord)]
        found = store.predictions_of({e.request for e in labels})
        joined = [row for e in labels for row in joiner.label(e, found.get(e.request))]
        spent.append((time.perf_counter() - started) / len(joined) * 1e6)
        assert len(joined) == BATCH
    return median(spent)


def size_matters(
    start: Callable[[Path], Any], tag: str, request: bytes, *, predictions: int, labels: int
) -> dict[str, Any]:
    """Predict p99 and join time with a full store over an empty one, in turns."""
    p99: dict[str, list[float]] = {"empty": [], "full": []}
    joins: dict[str, list[float]] = {"empty": [], "full": []}
    with tempfile.TemporaryDirectory() as folder:
        states = {name: Path(folder) / name for name in p99}
        for state in states.values():
            prepare(Settings(model=tag, state_dir=state))
        fill(states["full"] / "selfheal.db", predictions, labels)
        _start_behind(states["full"] / "selfheal.db")
        megabytes = os.path.getsize(states["full"] / "selfheal.db") / 1e6
        for _ in range(5):
            for name, state in states.items():
                with start(state) as port:
                    send(port, [request], rate=500, seconds=2, connections=32)
                    timings = send(port, [request], rate=1000, seconds=6, connections=32)
                    p99[name].append(timings.percentile(99))
                    assert not timings.failed
                with closing(open_store(Settings(model=tag, state_dir=state))) as store:
                    joins[name].append(join_micros(store))
    return {
        "predictions": predictions,
        "labels": labels,
        "megabytes": round(megabytes),
        "p99_ms": p99,
        "join_us": {k: [round(v, 1) for v in vs] for k, vs in joins.items()},
        "p99_ratio": round(median(p99["full"]) / median(p99["empty"]), 3),
        "join_ratio": round(median(joins["full"]) / median(joins["empty"]), 3),
    }


def _start_behind(file: Path) -> None:
    """Let the runner begin behind what was filled in, as it would have read it long ago."""
    with closing(sqlite3.connect(file)) as c, c:
        (start,) = c.execute("select value from meta where key = 'start'").fetchone()
        ends = [c.execute(f"select max(seq) from {t}").fetchone()[0]  # noqa: S608 - our own names
                for t in ("predictions", "feedback")]  # fmt: skip
        facts = {**json.loads(start), "predictions_from": ends[0], "feedback_from": ends[1]}
        c.execute("update meta set value = ? where key = 'start'", (json.dumps(facts),))
