"""Late labels meet their predictions, in the common order of both logs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import is_logged, issued_at
from bento_selfheal.core.log.erased import is_erased
from bento_selfheal.core.log.horizon import Horizon
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.scoring.review import Review

LATE_SECONDS = 3600.0
"""A prediction that is not in the log so long after its answer never comes."""
LATE_PLACES = 10_000
"""And so many requests later: a clock that is set forward decides nothing alone."""


@dataclass(frozen=True)
class JoinedRow:
    """One label with the row it belongs to."""

    key: bytes
    """Request key and row, or the hash of the row's own key: 16 bytes."""
    features: NDArray[np.float32]
    """``(features,)``"""
    label: int
    """Index of the class; `core.labels` has those that are none."""
    probability: float | list[float] | None
    """As it was answered; None where the row came with its label and was never predicted."""
    version: int | None
    """Snapshot version that answered."""
    delay: float | None
    """Seconds from the answer to the label."""
    corrects: bool
    source: str | None
    trace: str | None
    feedback_seq: int
    asked: int = -1
    """Place of its prediction in the log; -1 where there was none."""
    has_own_key: bool = False
    new_class: str | None = None
    """JSON of its class, where the packaged model does not have it."""
    unreported: bool = False
    """Whether its label is the class of rows that nobody reports."""
    stands_for: Sequence[float] = (1.0, 1.0)
    """Its weight, the share of the rows around it that are asked for, and of the review queue the
    chance that a row had around it of which a label could tell all."""

    @property
    def weight(self) -> float:
        """Rows that it stands for in figures: one through how likely it was to be asked for; 0
        where it was not asked for."""
        return self.stands_for[0]

    @property
    def explored(self) -> float:
        """Share of the rows around it that are asked for at least; 0 where nothing is known of
        some."""
        return self.stands_for[1]

    @property
    def likeliest(self) -> float:
        """How likely the likeliest rows around it were to be asked for, where its own chance rose
        with what its label could tell; else `explored`."""
        return self.stands_for[-1]


class Joiner:
    """Joins labels with predictions; a label that is early waits, the oldest go first.

    A worker logs predictions behind its answers, so a quick client's label can be written
    before the prediction is. Such a label is joined at the prediction's place in the log,
    never at the moment it happens to be found, so that a replay joins the same way.

    Args:
        waiting_limit: Labels that may wait; beyond it the oldest is given up as unmatched, and so
            is one that has waited for `LATE_SECONDS` and `LATE_PLACES`.
    """

    def __init__(self, waiting_limit: int) -> None:
        self._limit = waiting_limit
        self._waiting: OrderedDict[bytes, list[FeedbackRecord]] = OrderedDict()
        self.waiting = 0
        self.unmatched = 0

    def label(
        self,
        label: FeedbackRecord,
        prediction: PredictionRecord | None,
        horizon: Horizon | None = None,
    ) -> list[JoinedRow]:
        """Take one label; the rows that can be learned from now.

        Args:
            label: The label.
            prediction: Its prediction, where the log has it.
            horizon: What the log no longer has.
        """
        if label.features is not None:
            return [joined_row(label, label.features, None)]
        if prediction is not None and is_erased(prediction, label.row):
            self.unmatched += 1
            return []
        if prediction is not None and prediction.seq <= label.after:
            return [joined_row(label, prediction.features[label.row], prediction)]
        if _is_gone(label, prediction, horizon):
            self.unmatched += 1
            return []
        self._waiting.setdefault(_name(label), []).append(label)
        self.waiting += 1
        while self.waiting > self._limit:
            self._give_up_oldest()
        return []

    def prediction(self, prediction: PredictionRecord) -> list[JoinedRow]:
        """Take one prediction; the rows whose labels were waiting for it."""
        early = self._take(prediction)
        while self._waiting and self._oldest_is_late(prediction):
            self._give_up_oldest()
        rows: dict[int, list[JoinedRow]] = {}
        for label in early:
            joined = rows.setdefault(label.row, [])
            again = joined and not label.corrects  # by id and by key, both before it was logged
            if again or is_erased(prediction, label.row):
                self.unmatched += 1
            else:
                joined.append(joined_row(label, prediction.features[label.row], prediction))
        return sorted((r for joined in rows.values() for r in joined), key=_place)

    def drop(self, prediction: PredictionRecord) -> None:
        """Give up the labels that wait for a prediction."""
        self.unmatched += len(self._take(prediction))

    def _take(self, prediction: PredictionRecord) -> list[FeedbackRecord]:
        """The labels that wait for a prediction, oldest first, each with its row."""
        early = self._waiting.pop(prediction.request, [])
        for row in range(len(prediction.probabilities) if prediction.keys and self._waiting else 0):
            named = self._waiting.pop(prediction.key_of(row) or b"", [])
            early = early + [replace(label, row=row) for label in named]
        self.waiting -= len(early)
        return sorted(early, key=lambda label: label.seq)

    def _oldest_is_late(self, now: PredictionRecord) -> bool:
        label = next(iter(self._waiting.values()))[-1]
        return now.time - label.time > LATE_SECONDS and now.seq - label.after > LATE_PLACES

    def _give_up_oldest(self) -> None:
        _, dropped = self._waiting.popitem(last=False)
        self.waiting -= len(dropped)
        self.unmatched += len(dropped)

    def pending(self) -> list[FeedbackRecord]:
        """Labels that wait, in the order in which they came."""
        return [label for group in self._waiting.values() for label in group]

    def restore(self, pending: list[FeedbackRecord], unmatched: int) -> None:
        """Put labels back that `pending` gave."""
        self.unmatched = unmatched
        for label in pending:
            self._waiting.setdefault(_name(label), []).append(label)
        self.waiting = len(pending)


def _name(label: FeedbackRecord) -> bytes:
    """What a label waits for: its key, or its request."""
    return label.key or label.request


def _place(row: JoinedRow) -> int:
    return row.feedback_seq


def _is_gone(
    label: FeedbackRecord, prediction: PredictionRecord | None, horizon: Horizon | None
) -> bool:
    """Whether a prediction that is not before its label in the log never will be in it."""
    if label.key is not None:  # it was bound to its row when that was in the log
        return prediction is None and label.row != WAITS
    if prediction is None and horizon is not None and horizon.took(label, label.after):
        return True
    return not is_logged(label.request) or label.time - issued_at(label.request) > LATE_SECONDS


def row_key(request: bytes, row: int) -> bytes:
    """The 16-byte key of one row."""
    return request + row.to_bytes(4, "big")


def joined_row(
    label: FeedbackRecord, features: NDArray[np.float32], prediction: PredictionRecord | None
) -> JoinedRow:
    """A label with its row, ``(features,)``, and what was answered to it."""
    # A row that came with its features is known by its content, whatever its keys are.
    own = None if prediction is None else prediction.key_of(label.row)
    return JoinedRow(
        key=own or row_key(label.request, label.row),
        features=features,
        label=label.label,
        probability=None if prediction is None else prediction.probabilities[label.row].tolist(),
        version=None if prediction is None else prediction.version,
        delay=None if prediction is None else max(label.time - prediction.time, 0.0),
        corrects=label.corrects,
        source=label.source,
        trace=label.trace,
        feedback_seq=label.seq,
        new_class=label.new_class,
        asked=-1 if prediction is None else prediction.seq,
        has_own_key=own is not None,
        stands_for=(1.0, 1.0) if prediction is None else _reviewed(prediction, label.row),
    )


def _reviewed(prediction: PredictionRecord, row: int) -> tuple[float, float]:
    """`JoinedRow.stands_for` of a row."""
    if not prediction.review:
        return 1.0, 1.0
    review = Review.unpack(prediction.review, len(prediction.probabilities))
    asked = bool(review.asked(prediction.request)[row])
    return 1 / float(review.chances[row]) if asked else 0.0, review.explored
