"""kill -9 at random instants under load with feedback: nothing acknowledged is lost or counted
twice, only verified adapters answer, and heals go on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import wait_for
from live import Client, processes, served
from teller import Teller, compare, unverified

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService, free_port
from bento_selfheal.store import SqlStore

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(5400)]

WORKERS = 2
SHARES = {"runner": 0.45, "worker": 0.45, "tree": 0.1}
SERVICES = {"runner": "HealingRunner", "worker": "SelfHealing"}
LONGEST_PAUSE = 3.0
SEED = 6


class Victim:
    """A server on one port that is killed and, where nothing else would, started again."""

    def __init__(self, start: Callable[[], ServedService]) -> None:
        self._start = start
        self.server = start()
        self.killed: Counter[str] = Counter()

    def kill(self, what: str, draw: np.random.Generator) -> None:
        """kill -9 of a runner, of one worker, or of the whole tree."""
        if what == "tree":
            self.server.kill()
            self.server = self._start()
        else:
            found = processes(self.server, SERVICES[what])
            if not found:
                return  # it died a moment ago and is not back
            try:
                found[draw.integers(len(found))].kill()
            except psutil.NoSuchProcess:
                return
        self.killed[what] += 1


@pytest.mark.parametrize("kind", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.long)])
def test_killed_at_random_instants(
    home: Path, package: Package, tmp_path: Path, kind: str, request: pytest.FixtureRequest,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """A client that keeps what was acknowledged finds all of it in the store, once."""
    url = f"sqlite:///{tmp_path / 'state' / 'selfheal.db'}"
    if kind == "PostgreSQL":
        url = request.getfixturevalue("postgres").database()
    kills = request.config.getoption("--kills")
    settings = {"workers": WORKERS, "store_url": url, "lease_seconds": 2, "snapshots_kept": 100_000}
    draw, port = np.random.default_rng(SEED), free_port()
    running: list[Any] = []

    def start() -> ServedService:
        running.append(served(home, package, tmp_path, port=port, **settings))
        server: ServedService = running[-1].__enter__()
        return server

    try:
        victim = Victim(start)
        store = SqlStore(url)
        with Teller(victim.server.url, SEED) as teller:
            while victim.killed.total() < kills:
                time.sleep(draw.uniform(0, LONGEST_PAUSE))  # the instants are the test
                victim.kill(str(draw.choice(list(SHARES), p=list(SHARES.values()))), draw)
            _goes_on(teller, store)
            teller.rest()
            wait_for(lambda: not teller.owes, "every label acknowledged", 120)
            found = compare(teller, store)
            _learns_all(store, found.labels)
        wrong = unverified(teller, store, package)
        heals = [e.detail["heal"] for e in store.events(limit=100_000) if e.kind == "heal"]
        with Client(victim.server) as client:
            wait_for(lambda: _serves_newest(client, store), "the newest promotion serves")
        store.close()
    finally:
        for one in running:
            one.__exit__(None, None, None)
    record_fault(
        f"kill -9, {kind}",
        kills=victim.killed.total(), **victim.killed, acknowledged=len(teller.acknowledged),
        lost=found.lost, counted_twice=found.twice, answers=len(teller.answers), unverified=wrong,
        heals=len(heals), heals_twice=len(heals) - len(set(heals)),
    )  # fmt: skip
    assert (found.lost, found.twice, wrong) == (0, 0, 0)
    assert heals == list(range(1, len(heals) + 1))


def _goes_on(teller: Teller, store: SqlStore) -> None:
    """Labels are taken and heals are made after the last kill."""
    told, heals = len(teller.acknowledged), store.status()["heals"]
    wait_for(lambda: len(teller.acknowledged) > told, "labels acknowledged again", 120)
    wait_for(lambda: store.status()["heals"] > heals, "the next heal", 120)


def _serves_newest(client: Client, store: SqlStore) -> bool:
    newest = store.newest_promotion()
    assert newest is not None
    return bool(client.predict([[0.0] * 10])["model_version"] == newest.version)


def _learns_all(store: SqlStore, labels: int) -> None:
    """Every label is learned, once; it may take long, as long as it goes on."""
    while (learned := _learned(store)) != labels:
        wait_for(lambda before=learned: _learned(store) > before, "the runner learns on", 120)


def _learned(store: SqlStore) -> int:
    labels = store.status()["labels"]
    return int(labels["joined"] + labels["waiting"] + labels["unmatched"])
