"""kill -9 while a file of labels is sent, and while rows are predicted under keys: whoever sends
again what was not acknowledged loses nothing and counts nothing twice."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from commands import COMMAND
from conftest import wait_for
from live import Client, processes

from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.labelling.key_hash import KeyHasher
from bento_selfheal.serving.http.auth import NOBODY
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.store import SqlStore

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.faults, pytest.mark.timeout(5400)]

SEED = 8
LABELS, PREDICTED = 20_000, 1000
PART = 500
"""Rows that the service takes at once, so that a file is many requests."""
LONGEST = 3.0
"""Seconds from the start of the command to the kill at most. Kills are spread evenly over it, in an
order of chance."""
ROUND = 1.0
"""The same from the start of a round of requests, of which some hundred are answered a second: the
runner has to read a label for each of their rows in the end."""
ROWS = 4
UNLOGGED = 0.5
"""Seconds before a kill in which an answer may have been given that is not in the log: it is logged
50 ms later on a machine that is not busy."""


def test_a_file_of_labels_over_kills(
    serve: Callable[..., ServedService], tmp_path: Path, request: pytest.FixtureRequest,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """The command is killed and run again, or its service is killed and the command goes on; in
    the end each label of the file is in the log once, and learned or waiting once."""
    kills, draw = request.config.getoption("--kills"), np.random.default_rng(SEED)
    file = tmp_path / "night.csv"
    file.write_text("tx,fraud\n" + "".join(f"k-{n},{n % 2}\n" for n in range(LABELS)))
    server, killed = serve(workers=1, max_rows=PART, lease_seconds=1), Counter[str]()
    with Client(server) as client:
        _predict(client, PREDICTED)
        for after in draw.permutation(np.linspace(0, LONGEST, kills)):
            command = _begin(server, file)
            time.sleep(after)  # the instants are the test
            if draw.random() < 0.5:
                command.kill()
                command.communicate(timeout=60)
                killed["command"] += 1
                continue
            service = ("SelfHealing", "HealingRunner")[int(draw.integers(2))]
            _kill(server, service)
            killed[service] += 1
            out, errors = command.communicate(timeout=200)
            assert command.returncode == 0, (out, errors)
        out, errors = _begin(server, file).communicate(timeout=300)
        sent = json.loads(out)
        assert sent["accepted"] + sent["already_known"] == LABELS, (sent, errors)
        wait_for(lambda: _counted(client) >= LABELS, "every label read", 300)
        counted = _counted(client)
    labels = _labels(tmp_path)
    lost, doubled = LABELS - len(labels), labels.total() - len(labels)
    record_fault(
        "kill -9, a file of labels", kills=killed.total(), **killed, lost=lost, doubled=doubled
    )
    assert (lost, doubled, counted) == (0, 0, LABELS)


def test_keys_over_kills(
    serve: Callable[..., ServedService], tmp_path: Path, request: pytest.FixtureRequest,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """A client sends each request with the same keys until it is answered: the log counts it once,
    on whichever worker, and each label by key counts once. Lost are only rows that were answered
    in the moment before a worker was killed."""
    kills, draw = request.config.getoption("--kills"), np.random.default_rng(SEED)
    server, killed = serve(workers=2, lease_seconds=1, mode="observe"), Counter[str]()
    answered: list[float] = []
    instants: list[float] = []
    with Client(server) as client:
        for after in draw.permutation(np.linspace(0, ROUND, kills)):
            until = time.monotonic() + after
            while time.monotonic() < until:
                _ask(client, len(answered))
                answered.append(time.monotonic())
            service = ("SelfHealing", "HealingRunner")[int(draw.random() < 0.2)]
            _kill(server, service)
            killed[service] += 1
            instants.append(time.monotonic())
            _ask(client, len(answered))
            answered.append(time.monotonic())
            _label(client, len(answered) - 1)
        for number in range(len(answered)):
            _label(client, number)
        wait_for(lambda: _counted(client) >= ROWS * len(answered), "every label read", 300)
        counted = _counted(client)
    times, again = _requests(tmp_path)
    expected = _first_keys(tmp_path, len(answered))
    missing = [n for n, key in enumerate(expected) if not times[key]]
    twice = sum(times[key] > 1 for key in expected)
    late = [n for n in missing if not any(0 <= i - answered[n] < UNLOGGED for i in instants)]
    labels = _labels(tmp_path)
    doubled = twice + labels.total() - len(labels)
    record_fault(
        "kill -9, requests with keys", kills=killed.total(), **killed, requests=len(answered),
        sent_again=again, not_logged_yet=len(missing), lost=len(late), doubled=doubled,
    )  # fmt: skip
    assert (late, doubled) == ([], 0)
    assert len(labels) == counted == ROWS * len(answered)


def _begin(server: ServedService, file: Path) -> subprocess.Popen[str]:
    words = ["label", str(file), "--key", "tx", "--label", "fraud", "--url", server.url, "--json"]
    return subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _kill(server: ServedService, service: str) -> None:
    found = wait_for(lambda: processes(server, service), f"a process of {service}", 120)
    with suppress(psutil.NoSuchProcess):
        found[0].kill()


def _predict(client: Client, rows: int) -> None:
    """Predict the first rows of the file."""
    table = article_rows(rows, 0.0, np.random.default_rng(SEED)).rows.tolist()
    for at in range(0, rows, PART):
        keys = [f"k-{n}" for n in range(at, at + PART)]
        client.ask("/predict", {"rows": table[at : at + PART], "keys": keys})


def _keys(number: int) -> list[str]:
    return [f"r-{number}-{row}" for row in range(ROWS)]


def _ask(client: Client, number: int) -> None:
    """Send a request until it is answered."""
    table = article_rows(ROWS, 0.0, np.random.default_rng([SEED, number])).rows.tolist()
    _insist(client, "/predict", {"rows": table, "keys": _keys(number)})


def _label(client: Client, number: int) -> None:
    items = [{"key": key, "label": row % 2} for row, key in enumerate(_keys(number))]
    _insist(client, "/feedback", {"items": items})


def _insist(client: Client, path: str, body: Any) -> None:
    """Send a body until it is acknowledged."""

    def acknowledged() -> bool:
        with suppress(httpx.TransportError):
            answer = client.post(path, json=body)
            assert answer.status_code == 200 or answer.status_code >= 500, answer.text
            return answer.status_code == 200
        return False

    wait_for(acknowledged, path, 120)


def _counted(client: Client) -> int:
    """Labels that the runner has read, whatever became of them; -1 where it is not there."""
    with suppress(httpx.TransportError):
        labels = client.read("/status").get("labels", {})
        if labels:
            return int(labels["joined"] + labels["waiting"] + labels["unmatched"])
    return -1


def _labels(folder: Path) -> Counter[bytes]:
    """How often the log holds a label of each key."""
    found = Counter[bytes]()
    for entry in _log(folder):
        if isinstance(entry, FeedbackRecord):
            found[entry.key or b""] += 1
    return found


def _requests(folder: Path) -> tuple[Counter[bytes], int]:
    """How often the log counts a request of each first key, and how many were sent again."""
    found, again = Counter[bytes](), 0
    for entry in _log(folder):
        if not isinstance(entry, FeedbackRecord) and entry.retried:
            again += 1
        elif not isinstance(entry, FeedbackRecord):
            found[entry.key_of(0) or b""] += 1
    return found, again


def _log(folder: Path) -> list[Any]:
    store, entries, place = SqlStore(f"sqlite:///{folder / 'state' / 'selfheal.db'}"), [], (0, 0)
    while part := store.read_log(*place, limit=4096):
        entries += part
        for entry in part:
            feedback = isinstance(entry, FeedbackRecord)
            place = (place[0], entry.seq) if feedback else (entry.seq, place[1])
    store.close()
    return entries


def _first_keys(folder: Path, requests: int) -> list[bytes]:
    store = SqlStore(f"sqlite:///{folder / 'state' / 'selfheal.db'}")
    hasher = KeyHasher(store.meta("secret") or "")
    store.close()
    return [hasher.hash_one(_keys(number)[0], NOBODY) for number in range(requests)]
