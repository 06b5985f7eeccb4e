"""Retention: old rows go in small steps, the newest stays, what is within bounds is not touched."""

from __future__ import annotations

import numpy as np
from deployed import whole_log

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.runner.retention import DAY, STEP_ROWS, Retention
from bento_selfheal.store import SqlStore

NOW = 100 * DAY


def fill(store: SqlStore, days: list[float], rows: int = 1) -> None:
    """One request a day given, each with 1,000 bytes a row, and one label."""
    store.append_predictions(
        [
            PredictionRecord(
                int(day * DAY * 1000).to_bytes(6, "big") + n.to_bytes(6, "big"),
                np.zeros((rows, 249), np.float32), np.zeros(rows, np.float32), 1, day * DAY,
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


def test_stops_between_steps(store: SqlStore) -> None:
    """A service that shuts down waits for one step at most."""
    fill(store, [60.0] * 3 * STEP_ROWS)
    keeper = Retention(store, Settings(log_days=30))
    keeper.stop()
    assert keeper.run_once(NOW) == STEP_ROWS
