"""What labels stand for where only some rows are looked at."""

from __future__ import annotations

import numpy as np
import torch

from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.join import JoinedRow, Joiner
from bento_selfheal.healing.labels.reviewed import Reviewed
from bento_selfheal.scoring.review import Review

ROWS = 400


def joined(review: Review | None) -> list[JoinedRow]:
    """Labels of all rows of one request, of which the first hundred are looked at."""
    features, said = np.zeros((ROWS, 2), dtype=np.float32), np.zeros(ROWS, dtype=np.float32)
    kept = b"" if review is None else review.pack()
    asked = PredictionRecord(bytes(12), features, said, 1, 1.0, seq=1, review=kept)
    given = [FeedbackRecord(bytes(12), row, 1, 2.0, after=1, seq=row) for row in range(ROWS)]
    joiner = Joiner(10)
    return [row for label in given for row in joiner.label(label, asked)]


def test_weights() -> None:
    """A label that was asked for stands for one through how likely that was; one that nobody asked
    for counts in no figure. Where all are asked for, nothing is weighed."""
    rows = joined(Review(0.1, np.arange(ROWS) < 100))
    weights = [round(row.weight, 6) for row in rows]
    assert set(weights[:100]) == {1.0}
    assert set(weights[100:]) == {0.0, 10.0}
    assert 15 < weights.count(10.0) < 50
    reviewed = Reviewed.of(joined(None))
    assert reviewed.weights is None
    assert reviewed.proves.all()
    assert (reviewed.scale == 1).all()


def test_tests_stay_bounded() -> None:
    """In a test, differences are scaled by the largest weight that a row could have had; a label
    that nobody asked for proves nothing."""
    rows = joined(Review(0.1, np.arange(ROWS) < 100))
    reviewed, weights = Reviewed.of(rows), np.asarray([row.weight for row in rows])
    assert np.allclose(reviewed.scale, weights / 10)
    assert reviewed.scale.max() <= 1
    assert np.array_equal(reviewed.proves, weights > 0)


def test_nothing_is_proved_of_rows_that_are_never_looked_at() -> None:
    """Without exploration no row proves anything; rows that are looked at still tell when what
    serves is worse than what it replaced."""
    reviewed = Reviewed.of(joined(Review(0.0, np.arange(ROWS) < 100)))
    assert not reviewed.proves.any()
    assert reviewed.watched.tolist() == [1.0] * 100 + [0.0] * 300


def test_training_takes_each_row_once() -> None:
    """In training no label stands for other rows, whoever asked for it."""
    buffer = Buffer(1000, 2, lambda x: torch.from_numpy(x), lambda h: h[:, 0])
    buffer.extend(joined(Review(0.1, np.arange(ROWS) < 100)))
    assert set(buffer.weights.tolist()) == {1.0}
