"""The rows whose labels are asked for and have not come yet, those that tell most first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.log.erased import rows_left
from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.package import PackageInfo
from bento_selfheal.scoring.review import Review
from bento_selfheal.store import SqlStore

MOST_REQUESTS = 1000
"""Newest requests that are looked through."""


class ReviewQueue:
    """Finds rows for people to look at.

    Args:
        store: The logs.
        signer: Makes the ids of predictions.
        info: Names features and classes.
        threshold: The decision threshold in force.
    """

    def __init__(
        self,
        store: SqlStore,
        signer: IdSigner,
        info: PackageInfo,
        threshold: Callable[[], float],
    ) -> None:
        self._store = store
        self._signer = signer
        self._info = info
        self._threshold = threshold

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """The rows that are asked for and have no label, of the newest requests.

        Rows that were drawn by chance come first, as each speaks for many; then those of which the
        model is least sure.
        """
        at, found = self._threshold(), list[tuple[float, PredictionRecord, int, float]]()
        for record, labelled in self._store.newest_reviewed(MOST_REQUESTS):
            found += _waiting(record, labelled, at)
        found.sort(key=lambda one: one[0], reverse=True)
        return [self._described(*one[1:], at) for one in found[:limit]]

    def _described(
        self, record: PredictionRecord, row: int, chance: float, at: float
    ) -> dict[str, Any]:
        info, said = self._info, record.probabilities[row]
        token = self._signer.token_of(record.request, len(record.probabilities))
        decided = int(decide_classes(record.probabilities[row : row + 1], at)[0])
        return {
            "prediction_id": f"{token}.{row}",
            "features": _features(info, record.features[row : row + 1]),
            "probability": said.tolist(),
            "decision": info.classes[decided],
            "review_probability": chance,
            "why": "drawn by chance" if chance < 1 else "looked at in any case",
            "time": record.time,
        }


def _waiting(
    record: PredictionRecord, labelled: set[int], at: float
) -> Iterator[tuple[float, PredictionRecord, int, float]]:
    """What speaks for each row that is asked for and has no label, the row, and its chance."""
    review = Review.unpack(record.review, len(record.probabilities))
    doubts = _doubts(record.probabilities, at)
    wanted = review.asked(record.request) & rows_left(record)
    for row in np.flatnonzero(wanted).tolist():
        if row not in labelled:
            chance = float(review.chances[row])
            yield 1 / chance + float(doubts[row]), record, row, chance


def _doubts(answers: NDArray[np.float32], at: float) -> NDArray[np.float64]:
    """How unsure the answers are, ``(n,)`` in [0, 1]: by the distance from the threshold of two
    classes, and by that of the likeliest two of more."""
    if answers.ndim == 1:
        return 1 - np.abs(answers.astype(np.float64) - at).clip(0, 1)
    best = np.sort(answers.astype(np.float64), axis=1)
    return 1 - (best[:, -1] - best[:, -2]).clip(0, 1)


def _features(info: PackageInfo, row: NDArray[np.float32]) -> dict[str, Any]:
    """The features of a row by name, as requests give them."""
    if info.columns and not info.hidden_columns:
        [values] = Schema(info.columns).json_rows(row)
        return dict(zip((column.name for column in info.columns), values, strict=True))
    values = [None if np.isnan(value) else value for value in row[0].tolist()]
    return dict(zip(info.features, values, strict=True))
