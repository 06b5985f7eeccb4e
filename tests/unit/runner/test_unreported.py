"""Only frauds are reported: the runner matures the rest by the logs alone, whenever it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from steps import BATCH, LAZY, handed_over, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.unreported import Unreported
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner import reading
from bento_selfheal.runner.retention import Retention
from bento_selfheal.runner.runner import Runner
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.telemetry.spans import Telemetry

REQUESTS, ROWS, START = 60, 10, 1_700_000_000.0
AFTER = {"class": 0, "after": "8s"}


class Service:
    """A deployed store whose logs are written by hand, one request a second, and its runners."""

    def __init__(self, package: Package, folder: Path, **more: Any) -> None:
        self.package = package
        self.settings = Settings(
            model=package.tag, state_dir=folder, batch_size=BATCH, replay_rate=LAZY,
            lease_seconds=60, **{"unreported": AFTER, **more},
        )  # fmt: skip
        prepare(self.settings)
        self.store = open_store(self.settings)
        self.asked: list[PredictionRecord] = []
        self.runners: list[Runner] = []

    def runner(self) -> Runner:
        """A runner that takes over from the last one, which is dead."""
        if self.runners:
            handed_over(self.runners[-1])
        self.runners.append(Runner(self.settings, Telemetry()))
        return self.runners[-1]

    def ask(self, second: int, rows: Any, keys: bytes = b"", attempt: int = 0) -> None:
        time = START + second
        key = int(time * 1000).to_bytes(6, "big") + (100 * attempt + second).to_bytes(6, "big")
        answers = self.package.baseline(rows)
        asked = PredictionRecord(key, rows, answers, 1, time, seq=second + 1, keys=keys)
        self.store.append_predictions([asked])
        self.asked.append(asked)

    def label(self, second: int, row: int, label: int, now: int) -> None:
        asked = self.asked[second]
        given = FeedbackRecord(asked.request, row, label, START + now + 0.5)
        self.store.add_feedback([given])

    def close(self) -> None:
        for runner in self.runners:
            runner.store.close()
        self.store.close()

    def found(self) -> dict[str, Any]:
        """What came of it."""
        names = ("unreported", "labels", "heals", "promotions", "champion", "one_sided", "lift")
        status = self.store.status()
        snapshots = [(s.version, s.sha256) for s in self.store.snapshots()]
        return {**{name: status[name] for name in names}, "snapshots": snapshots}


@pytest.fixture
def serve(package: Package, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Services with stores of their own."""
    made: list[Service] = []

    def new(**more: Any) -> Service:
        made.append(Service(package, tmp_path / str(len(made)), **more))
        return made[-1]

    yield new
    for service in made:
        service.close()


def stream(services: list[Service], each: Callable[[int], None]) -> tuple[int, int]:
    """Frauds alone are reported, 3 s after they were asked, or after 12; how many in all and late.

    Args:
        services: Where it is logged.
        each: Called after each second.
    """
    table = article_rows(REQUESTS * ROWS, 1.0, np.random.default_rng(5))
    due: list[tuple[int, int, int]] = []
    late = 0
    for second in range(REQUESTS):
        part = slice(second * ROWS, (second + 1) * ROWS)
        frauds = np.flatnonzero(table.labels[part]).tolist()
        due += [(second + (12 if row % 3 == 0 else 3), second, row) for row in frauds]
        for service in services:
            service.ask(second, table.rows[part])
            for when, asked, row in sorted(due):
                if when == second:
                    service.label(asked, row, 1, now=second)
                    late += when - asked > 8 and service is services[0]
        each(second)
    return sum(when < REQUESTS for when, _, _ in due), late


def test_any_pace(serve: Callable[..., Service], monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that reads each second's rows as they come, that is killed and succeeded in between
    and whose steps are given up, comes to what one comes to that reads the whole log at the end:
    the same rows, labels, heals and adapters to the bit."""
    monkeypatch.setattr(reading, "READ_REQUESTS", 7)
    at_once, by_steps = serve(), serve()
    runner = by_steps.runner()

    def each(second: int) -> None:
        nonlocal runner
        if second % 15 == 14:
            with monkeypatch.context() as broken:
                broken.setattr(runner.store, "commit", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    work_off(runner)
            if second % 2:
                runner = by_steps.runner()
        work_off(runner)

    labels, late = stream([at_once, by_steps], each)
    work_off(at_once.runner())
    assert by_steps.found() == at_once.found()
    found = at_once.found()["unreported"]
    assert found["rows"] == (REQUESTS - 8) * ROWS == found["matured"] * ROWS
    assert (found["late"], found["waiting_requests"], found["lost"]) == (late, 8, 0)
    assert found["early"] > 0
    assert found["unreported"] == found["rows"] - (labels - late - found["early"])
    assert found["age_seconds"] == 8.0
    assert at_once.found()["heals"] > 0


def test_log_is_replayed(serve: Callable[..., Service]) -> None:
    """A replay of the store's own log matures the same rows, and its figures are of them."""
    service = serve()
    stream([service], lambda second: None)
    run = Backtest(service.package, service.settings)
    run.replay(service.store, 0, 0)
    assert run.labelled == (REQUESTS - 8) * ROWS
    runner = service.runner()
    work_off(runner)
    assert run.pipeline.status()["unreported"] == service.store.status()["unreported"]


def test_waiting_rows_stay(serve: Callable[..., Service]) -> None:
    """Rows that wait stay in the log beyond its bounds, and go once they have matured."""
    service = serve(log_megabytes=1e-6)
    stream([service], lambda second: None)
    runner = service.runner()
    work_off(runner)
    Retention(service.store, service.settings).run_once(START + 1e9)
    found = service.store.requests_after(0, 10**6, 1000)
    assert [one.seq for one in found] == list(range(REQUESTS - 7, REQUESTS + 1))


def test_lost_rows_are_counted(serve: Callable[..., Service]) -> None:
    """Rows that wait for more room than there is are removed, counted, and an event says so."""
    service = serve(waiting_megabytes=1e-6)
    table = article_rows(40 * ROWS, 0.0, np.random.default_rng(5))
    for second in range(5):
        service.ask(second, table.rows[second * ROWS : (second + 1) * ROWS])
    runner = service.runner()
    work_off(runner)
    Retention(service.store, service.settings).run_once(START + 1e9)
    for second in range(5, 20):
        service.ask(second, table.rows[second * ROWS : (second + 1) * ROWS])
    work_off(service.runner())
    shown = service.store.status()["unreported"]
    assert shown["lost"] == 4
    assert shown["matured"] == 12
    [event] = [e for e in service.store.events(limit=100) if e.kind == "unreported_lost"]
    assert event.detail["requests"] == 4


def test_nothing_is_read_twice(serve: Callable[..., Service]) -> None:
    """Where the setting comes into force on a store with labels, rows of before do not mature."""
    service = serve(unreported=None)
    table = article_rows(40 * ROWS, 0.0, np.random.default_rng(5))
    for second in range(10):
        part = slice(second * ROWS, (second + 1) * ROWS)
        service.ask(second, table.rows[part])
        for row, label in enumerate(table.labels[part]):
            if row:
                service.label(second, row, int(label), now=second)
    work_off(service.runner())
    assert service.store.status()["unreported"] is None
    service.settings = service.settings.model_copy(
        update={"unreported": Unreported.model_validate(AFTER)}
    )
    runner = service.runner()
    for second in range(10, 30):
        service.ask(second, table.rows[second * ROWS : (second + 1) * ROWS])
    service.label(0, 0, 1, now=30)
    work_off(runner)
    status = service.store.status()
    assert status["unreported"]["since"] == 10
    assert status["unreported"]["rows"] == 12 * ROWS
    assert status["labels"]["joined"] == 10 * (ROWS - 1) + 1


def test_requests_that_are_sent_again(serve: Callable[..., Service]) -> None:
    """A client that sends every request twice is counted as one that sends each once: rows,
    signals, labels, and rows that mature with either label."""
    once, twice = serve(), serve()
    table = article_rows(REQUESTS * ROWS, 1.0, np.random.default_rng(5))
    for second in range(REQUESTS):
        part = slice(second * ROWS, (second + 1) * ROWS)
        keys = [f"{row}".encode().rjust(16, b"0") for row in range(part.start, part.stop)]
        frauds = np.flatnonzero(table.labels[part]).tolist()
        for service in (once, twice):
            for attempt in range(1 + (service is twice)):
                service.ask(second, table.rows[part], b"".join(keys), attempt)
            own = [FeedbackRecord(keys[row][:12], WAITS, 1, START + second, key=keys[row])
                   for row in frauds]  # fmt: skip
            service.store.add_feedback(own)
    for service in (once, twice):
        work_off(service.runner())
    a, b = once.store.status(), twice.store.status()
    for name in ("predicted_rows", "batches", "agreement", "labels", "one_class"):
        assert a[name] == b[name], name
    watched = ("z", "conflicts", "distance", "drifting")
    assert [a["signals"][n] for n in watched] == [b["signals"][n] for n in watched]
    counts = ("rows", "unreported", "late")
    assert [a["unreported"][n] for n in counts] == [b["unreported"][n] for n in counts]
    assert a["unreported"]["rows"] == (REQUESTS - 8) * ROWS
