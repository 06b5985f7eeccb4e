"""Several models in one service: the memory of 20 beside 1, and one model under another's load.

    python benchmarks/many_models.py

All models are the article's, each with a name, a store and an adapter of its own. Memory is the
proportional set size (PSS) of every process of the service, after each model has answered and
learned. The quiet model's answers are timed in turns, alone and beside a model that is loaded, in
one server with one worker.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import httpx
import psutil
from wire import Timings, post, send
from worlds import ROOT, package_article

from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.demo import demo_stream
from bento_selfheal.simulation.server import ServedService

SEED, MODELS, TURNS, SECONDS = 42, 20, 5, 8.0
QUIET_RATE, LOAD_RATE = 50.0, 400.0
ROW = [0.1, -0.4, 1.2, 0.0, 0.3, -1.1, 0.8, -2.7, 0.2, 0.5]
MB = 1e6


@contextmanager
def _served(home: Path, package: Package, count: int) -> Iterator[ServedService]:
    """A service of one worker with so many models, each of which has learned 300 labels."""
    names = [f"m{i:02d}" for i in range(count)]
    env = {"SELFHEAL_MODELS": ",".join(names), "SELFHEAL_WORKERS": "1",
           "SELFHEAL_STATE_DIR": str(home / f"state-{count}")}  # fmt: skip
    env |= {f"SELFHEAL_{name.upper()}__MODEL": package.tag for name in names}
    log = home / f"{count}.log"
    with ServedService("service:SelfHealing", home=home, log=log, cwd=ROOT, env=env) as server:
        for name in names:
            _teach(f"{server.url}/{name}")
        yield server


def _teach(url: str) -> None:
    stream, done = demo_stream(3, 0, 0.0, 7), threading.Event()
    with httpx.Client(base_url=url, timeout=60) as client:
        for rows, labels in stream:
            answer = client.post(f"{url}/predict", json={"rows": rows.tolist()}).raise_for_status()
            items = [
                {"prediction_id": i, "label": y}
                for i, y in zip(answer.json()["prediction_ids"], labels.tolist(), strict=True)
            ]
            client.post(f"{url}/feedback", json={"items": items}).raise_for_status()
        while client.get(f"{url}/status").json()["labels"]["joined"] < len(stream.rows):
            done.wait(0.1)


def _memory(server: ServedService) -> float:
    """Megabytes of all processes of a service."""
    parent = psutil.Process(server.process.pid)
    return sum(p.memory_full_info().pss for p in [parent, *parent.children(recursive=True)]) / MB


def _quiet(server: ServedService) -> Timings:
    body = json.dumps({"rows": [ROW]}).encode()
    return send(
        server.port, [post("/m01/predict", body)], rate=QUIET_RATE, seconds=SECONDS, connections=1
    )


def _beside(server: ServedService) -> Timings:
    body = json.dumps({"rows": [ROW]}).encode()
    load = threading.Thread(
        target=send, args=(server.port, [post("/m00/predict", body)]),
        kwargs={"rate": LOAD_RATE, "seconds": SECONDS + 1, "connections": 8},
    )  # fmt: skip
    load.start()
    try:
        return _quiet(server)
    finally:
        load.join()


def many_models() -> dict[str, Any]:
    """Megabytes with 1 model and with 20, and p99 of a quiet model alone and beside a load."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        use_home(home)
        package = package_article(SEED)
        with _served(home, package, 1) as server:
            one = _memory(server)
        with _served(home, package, MODELS) as server:
            many = _memory(server)
            _quiet(server)  # to warm up
            turns = [(_quiet(server), _beside(server)) for _ in range(TURNS)]
    alone = median(quiet.percentile(99) for quiet, _ in turns)
    beside = median(loaded.percentile(99) for _, loaded in turns)
    return {
        "models": MODELS, "megabytes_1": round(one, 1), "megabytes_20": round(many, 1),
        "megabytes_per_model": round((many - one) / (MODELS - 1), 2),
        "p99_alone_ms": alone, "p99_beside_ms": beside, "p99_ratio": round(beside / alone, 3),
        "failed": sum(t.failed for turn in turns for t in turn),
        "quiet_rate": QUIET_RATE, "load_rate": LOAD_RATE, "cores": os.cpu_count(),
    }  # fmt: skip


ROWS: dict[str, Callable[[], dict[str, Any]]] = {"many models": many_models}

if __name__ == "__main__":
    print(json.dumps({name: measure() for name, measure in ROWS.items()}, indent=2))
