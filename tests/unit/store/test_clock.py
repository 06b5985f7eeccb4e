"""Clocks that jump: order goes by places in the logs, and no lease outlives what it was given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import Deployed, whole_log
from rigs import drifting
from steps import BATCH, handed_over, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.errors import LeaseLost
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner.runner import Runner
from bento_selfheal.store import SqlStore

pytestmark = pytest.mark.faults

HOUR = 3600.0


class Clock:
    """The clock of this process, which may be set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead, seconds, nanoseconds = 0.0, time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: seconds() + self.ahead)
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + int(self.ahead * 1e9))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def service(package: Package, tmp_path: Path) -> Iterator[Deployed]:
    service = Deployed(
        Settings(model=package.tag, state_dir=tmp_path, batch_size=BATCH, lease_seconds=5)
    )
    yield service
    service.close()


@pytest.fixture
def store(service: Deployed) -> SqlStore:
    """Of a deployed service."""
    return service.store


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_dead_leader(store: SqlStore, clock: Clock, jump: float) -> None:
    """A leader that died is succeeded at once when the clock jumps by an hour, either way."""
    assert store.acquire_lease("dead", 5)
    assert store.acquire_lease("two", 5) is None
    clock.ahead += jump
    assert store.acquire_lease("two", 5)
    assert store.leader() == "two"


@pytest.mark.parametrize("back", [3.0, 30.0, 59 * 60.0])
def test_lease_outlives_nothing(store: SqlStore, clock: Clock, back: float) -> None:
    """However far a clock is set back, a dead leader's lease lasts no longer than twice its
    length."""
    assert store.acquire_lease("dead", 5)
    clock.ahead -= back
    waited = 0.0
    while store.acquire_lease("two", 5) is None:
        clock.ahead += 1.0
        waited += 1.0
    assert waited <= 10.0


def test_live_leader(store: SqlStore, clock: Clock) -> None:
    """A leader that renews after a jump leads on under its token."""
    token = store.acquire_lease("one", 5)
    for jump in (-HOUR, HOUR, HOUR, -HOUR):
        clock.ahead += jump
        assert store.acquire_lease("one", 5) == token
        assert store.acquire_lease("two", 5) is None


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_nothing_twice(service: Deployed, store: SqlStore, clock: Clock, jump: float) -> None:
    """Over a jump in mid-stream every label is learned once, in the order of the log, and every
    heal is made once, though another runner may take the lease."""
    one, two = service.runner(), service.runner()
    rows, labels = drifting(clean=4 * BATCH, drifted=8 * BATCH)
    owed = service.ask(rows[:BATCH])
    for at in range(BATCH, len(rows), BATCH):
        batch = slice(at, at + BATCH)
        service.label(service.ask(rows[batch]), labels[batch])
        for runner in (one, two):
            step_as_leader(runner)
        if at == 4 * BATCH:
            clock.ahead += jump
            told = service.label(owed, labels[:BATCH])
            assert (len(told.unknown), told.unmatched) == (0, 0)
    handed_over(one)
    handed_over(two)
    work_off(service.runner())
    status = store.status()
    assert status["labels"] == {**status["labels"], "joined": len(rows), "unmatched": 0}
    heals = [e.detail["heal"] for e in store.events() if e.kind == "heal"]
    assert heals == list(range(1, len(heals) + 1))
    assert len(heals) > 2
    log = whole_log(store)
    for kind in (PredictionRecord, FeedbackRecord):
        places = [e.seq for e in log if isinstance(e, kind)]
        assert places == list(range(1, len(places) + 1))


def step_as_leader(runner: Runner) -> None:
    """Work off while it leads; one that was succeeded notices, and stands by."""
    try:
        work_off(runner)
    except LeaseLost:
        assert runner.step() is False
