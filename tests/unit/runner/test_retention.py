"""Retention: old rows go in small steps, the newest stays, what is within bounds is not touched."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from deployed import whole_log

from bento_selfheal.config.settings import Settings
from bento_selfheal.core import periodic
from bento_selfheal.core.records import (
    Event,
    FeedbackRecord,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
    RawInput,
    Snapshot,
)
from bento_selfheal.runner import retention
from bento_selfheal.runner.retention import DAY, STEP_ROWS, Retention
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.store.inputs import ROW_BYTES

NOW = 100 * DAY


def fill(store: SqlStore, days: list[float], rows: int = 1) -> None:
    """One request a day given, each with 1,000 bytes a row (0.1 needs them all), and one label."""
    store.append_predictions(
        [
            PredictionRecord(
                int(day * DAY * 1000).to_bytes(6, "big") + n.to_bytes(6, "big"),
                np.full((rows, 249), 0.1, np.float32), np.full(rows, 0.1, np.float32), 1, day * DAY,
            )
            for n, day in enumerate(days)
        ]
    )  # fmt: skip
    store.add_feedback(
        [FeedbackRecord(n.to_bytes(12, "big"), 0, 1, day * DAY) for n, day in enumerate(days)]
    )


def left(store: SqlStore) -> tuple[int, int]:
    entries = whole_log(store)
    labels = sum(isinstance(e, FeedbackRecord) for e in entries)
    return len(entries) - labels, labels


def test_age(store: SqlStore) -> None:
    """Predictions and labels go by their own ages, however many steps that takes."""
    fill(store, [60.0] * (2 * STEP_ROWS + 50) + [95.0] * 7)
    keeper = Retention(store, Settings(log_days=30, feedback_days=45))
    assert keeper.run_once(NOW) == 2 * STEP_ROWS + 50
    assert left(store) == (7, 2 * STEP_ROWS + 57)
    assert keeper.run_once(NOW + 10 * DAY) == 2 * STEP_ROWS + 50
    assert left(store) == (7, 7)
    assert keeper.run_once(NOW) == 0


def test_size(store: SqlStore) -> None:
    """The oldest predictions go until the log holds no more than it may; labels stay."""
    fill(store, [99.0] * 50, rows=20)
    keeper = Retention(store, Settings(log_megabytes=0.2))
    assert keeper.run_once(NOW) == 40
    assert store.logged()[0] == 200_000
    assert left(store) == (10, 50)


def with_records(store: SqlStore, days: list[float]) -> None:
    """One event a day given, and a promotion of a snapshot that is dropped on the next one."""
    store.begin_status({})
    token = store.acquire_lease("runner", 3600)
    assert token is not None
    for n, day in enumerate(days):
        at = day * DAY
        snapshot = Snapshot(n + 1, "m:1", Phase.POST, "ab", 1, 1, "why", at)
        promotion = Promotion(PromotionKind.PROMOTE, n + 1, "m:1", "ab", "why", at)
        store.commit(token, StepRecord(
            b"", {}, [snapshot], [n], [promotion], after_promotion=n,
            events=[Event("heal", {}, at)],
        ))  # fmt: skip


def records(store: SqlStore) -> tuple[list[int], list[int], list[int]]:
    """Places of the events and promotions, and the versions of all snapshots."""
    versions = [s.version for s in store.snapshots(kept_only=False)]
    return [e.seq for e in store.events()], [p.seq for p in store.promotions()], versions


def test_records_by_age(store: SqlStore) -> None:
    """Events, promotions and dropped snapshots go by their age, a year where nothing else is set;
    what serves stays, however old."""
    with_records(store, [10.0, 20.0, 30.0, 90.0])
    keeper = Retention(store, Settings())
    assert keeper.run_once(NOW) == 0
    assert keeper.run_once(10 * DAY + 366 * DAY) == 3
    assert records(store) == ([2, 3, 4],) * 3
    assert Retention(store, Settings(record_days=30)).run_once(NOW) == 6
    assert records(store) == ([4], [4], [4])
    assert keeper.run_once(1e6 * DAY) == 1
    assert records(store) == ([], [4], [4])


def test_records_by_number(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much a service in trouble writes, no more than so many of each stay."""
    monkeypatch.setattr(retention, "RECORDS_KEPT", 3)
    monkeypatch.setattr(retention, "STEP_ROWS", 2)
    with_records(store, [99.0] * 9)
    assert Retention(store, Settings()).run_once(NOW) == 18
    assert records(store) == ([7, 8, 9],) * 3


def test_stops_between_steps(store: SqlStore) -> None:
    """A service that shuts down waits for one step at most."""
    fill(store, [60.0] * 3 * STEP_ROWS)
    keeper = Retention(store, Settings(log_days=30))
    keeper.thread.stop()
    assert keeper.run_once(NOW) == STEP_ROWS


def test_outlives_any_error(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw is logged and counted, and retention tries again."""
    monkeypatch.setattr(periodic, "FIRST_RETRY_SECONDS", 1e-4)
    monkeypatch.setattr("bento_selfheal.runner.retention.LOOK_SECONDS", 0.0)
    keeper, again = Retention(store, Settings()), threading.Semaphore(0)
    monkeypatch.setattr(keeper.thread, "_first", 0.0)

    def broken(now: float) -> int:
        again.release()
        raise MemoryError("one bad moment")

    monkeypatch.setattr(keeper, "run_once", broken)
    keeper.start(lambda: True)
    for _ in range(3):
        assert again.acquire(timeout=10)
    assert keeper.thread.alive
    keeper.thread.stop()
    assert keeper.thread.failures >= 2
    assert "MemoryError: one bad moment" in caplog.text


def with_inputs(store: SqlStore, days: list[float]) -> None:
    """One request a day given, whose input and whose rest take 1,000 bytes each."""
    body = b"x" * (1000 - ROW_BYTES)
    store.append_predictions(
        [
            PredictionRecord(
                n.to_bytes(12, "big"), np.full((1, 249), 0.1, np.float32),
                np.full(1, 0.1, np.float32), 1, day * DAY, inputs=(RawInput("text/plain", body),),
            )
            for n, day in enumerate(days)
        ]
    )  # fmt: skip


def test_inputs_by_age(store: SqlStore) -> None:
    """Inputs go with their predictions; of those, the newest stays."""
    with_inputs(store, [60.0] * 5 + [95.0] * 3)
    keeper = Retention(store, Settings(log_days=30))
    assert keeper.run_once(NOW) == 10
    assert (left(store)[0], store.logged_inputs()) == (3, 3000)
    keeper.run_once(NOW + 40 * DAY)
    assert (left(store)[0], store.logged_inputs()) == (1, 0)


@pytest.mark.parametrize(
    ("room", "predictions", "inputs"),
    [(0.020, 10, 10), (0.0135, 10, 3), (0.010, 10, 0), (0.007, 7, 0)],
)
def test_inputs_have_what_predictions_leave(
    store: SqlStore, room: float, predictions: int, inputs: int
) -> None:
    """Both together take no more than the log may; where that is little, inputs go first."""
    with_inputs(store, [99.0] * 10)
    Retention(store, Settings(log_megabytes=room)).run_once(NOW)
    assert (left(store)[0], store.logged_inputs()) == (predictions, inputs * 1000)
