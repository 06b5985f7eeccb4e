"""The logs are read by bytes: however large requests are, the runner stays small."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.runner import reading
from bento_selfheal.runner.reading import LogReader
from bento_selfheal.store import SqlStore, logs

REQUEST_BYTES = 100_000
LARGE = np.random.default_rng(0).normal(size=(250, 100)).astype(np.float32)


class Taker:
    """Notes what a pipeline is given."""

    def __init__(self) -> None:
        cursors = SimpleNamespace(predictions=0, feedback=0)
        board = SimpleNamespace(counts=SimpleNamespace(heals=0))
        batches = SimpleNamespace(maturity=SimpleNamespace(waits=False))
        self.parts = SimpleNamespace(cursors=cursors, scoreboard=board, batches=batches)
        self.journal = SimpleNamespace(outcome=SimpleNamespace(promotions=[]))
        self.taken: list[tuple[int, int]] = []

    def consume(self, entry: Any, prediction: PredictionRecord | None, _: Any) -> None:
        if isinstance(entry, PredictionRecord):
            self.parts.cursors.predictions = entry.seq
        else:
            self.parts.cursors.feedback = entry.seq
            assert prediction is not None
            assert prediction.request == entry.request
            self.taken.append((int.from_bytes(entry.request, "big"), entry.label))


@pytest.fixture
def logged(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> SqlStore:
    """40 large requests; the labels of all come after the last of them."""
    for module in (reading, logs):
        monkeypatch.setattr(module, "MOST_BYTES", 4 * REQUEST_BYTES)
    for i in range(40):
        answers = np.full(len(LARGE), 0.5, np.float32)
        store.append_predictions([PredictionRecord(i.to_bytes(12, "big"), LARGE, answers, 1, 1.0)])
    store.add_feedback([FeedbackRecord(i.to_bytes(12, "big"), i, i % 2, 2.0) for i in range(40)])
    return store


def test_little_is_in_memory_at_once(logged: SqlStore) -> None:
    """Requests and the predictions of late labels are read a few at a time, all in their order."""
    taker, reader = Taker(), LogReader(logged)
    tracemalloc.start()
    while reader.read(cast(Any, taker)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taker.taken == [(i, i % 2) for i in range(40)]
    assert peak < 20 * REQUEST_BYTES


def test_a_request_over_the_bound_is_read(
    logged: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request that is larger than what is read at once does not stop the log."""
    for module in (reading, logs):
        monkeypatch.setattr(module, "MOST_BYTES", REQUEST_BYTES // 10)
    assert len(logged.read_log(0, 0)) == 1
    taker, reader = Taker(), LogReader(logged)
    while reader.read(cast(Any, taker)):
        pass
    assert len(taker.taken) == 40
