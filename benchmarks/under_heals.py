"""Predictions while heals run back to back, and without, in turns on one server."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from wire import Timings, post, send

from bento_selfheal.simulation.demo import demo_stream
from bento_selfheal.store import SqlStore

CONNECTIONS = 64
ROW = [0.1, -0.4, 1.2, 0.0, 0.3, -1.1, 0.8, -2.7, 0.2, 0.5]
# Signals must not heal by themselves while a stretch without heals is measured.
SETTINGS = {
    "gate": "always", "fidi_threshold": 1000, "conflict_min": 1000, "error_drop": 1,
}  # fmt: skip


@dataclass
class Load:
    """Answer times of all stretches of a kind, and the p99 of each."""

    times: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    failed: int = 0
    heals: int = 0
    promotions: int = 0

    def add(self, timings: Timings) -> None:
        self.times += timings.times
        self.p99s.append(timings.percentile(99))
        self.failed += timings.failed


def give_labels(url: str) -> None:
    """Labelled rows for the forced heals to train on."""
    stream = demo_stream(20, 0, 2.2, 7)
    with httpx.Client(base_url=url, timeout=30) as client:
        for rows, labels in stream:
            ids = client.post("/predict", json={"rows": rows.tolist()}).json()["prediction_ids"]
            items = [
                {"prediction_id": i, "label": y} for i, y in zip(ids, labels.tolist(), strict=True)
            ]
            client.post("/feedback", json={"items": items}).raise_for_status()
        done = threading.Event()
        while client.get("/status").json()["labels"]["joined"] < len(stream.rows):
            done.wait(0.05)


@contextmanager
def healing(store: SqlStore, file: Path, load: Load) -> Iterator[None]:
    """Heals one after the other for as long as the block lasts; asked for by way of the store.

    The look for the next one is a bare query: it must take no CPU that predictions could have.
    """
    stop, before = threading.Event(), store.status()

    def heal_on_and_on() -> None:
        reader = sqlite3.connect(file, isolation_level=None)
        newest = "select max(version) from snapshots"
        while not stop.is_set():
            done = reader.execute(newest).fetchone()
            store.add_command("heal")
            while not stop.wait(0.01) and reader.execute(newest).fetchone() == done:
                pass
        reader.close()

    healer = threading.Thread(target=heal_on_and_on)
    healer.start()
    try:
        yield
    finally:
        stop.set()
        healer.join()
    after = store.status()
    load.heals += after["heals"] - before["heals"]
    load.promotions += after["promotions"] - before["promotions"]


def in_turns(
    port: int,
    heals: Callable[[Load], AbstractContextManager[Any]],
    *,
    rate: float,
    seconds: float,
    rounds: int,
) -> dict[str, Load]:
    """Alternate stretches of load without heals and with them."""
    loads = {"without": Load(), "with_heals": Load()}
    request = [post("/predict", json.dumps({"rows": [ROW]}).encode())]

    def stretch(length: float) -> Timings:
        return send(port, request, rate=rate, seconds=length, connections=CONNECTIONS)

    stretch(2.0)
    for _ in range(rounds):
        loads["without"].add(stretch(seconds / rounds))
        with heals(loads["with_heals"]):
            loads["with_heals"].add(stretch(seconds / rounds))
    return loads


def ours_in_turns(
    port: int, state: Path, *, rate: float, seconds: float, rounds: int
) -> dict[str, Load]:
    """`in_turns` on our own service, whose state lies in a folder."""
    give_labels(f"http://127.0.0.1:{port}")
    file = state / "selfheal.db"
    store = SqlStore(f"sqlite:///{file}")
    try:
        return in_turns(
            port, lambda load: healing(store, file, load),
            rate=rate, seconds=seconds, rounds=rounds,
        )  # fmt: skip
    finally:
        store.close()
