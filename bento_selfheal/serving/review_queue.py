"""The rows whose labels are asked for, as people look at them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.review.asked_row import ShownRow
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.package import PackageInfo
from bento_selfheal.store import SqlStore


class ReviewQueue:
    """Hands rows to people.

    Args:
        store: The queue, which the runner fills.
        signer: Makes the ids of predictions.
        info: Names features and classes.
        threshold: The decision threshold in force.
        settings: ``review`` and ``review_budget``.
    """

    def __init__(
        self,
        store: SqlStore,
        signer: IdSigner,
        info: PackageInfo,
        threshold: Callable[[], float],
        settings: Settings,
    ) -> None:
        self._store = store
        self._signer = signer
        self._info = info
        self._threshold = threshold
        self._rule, self._budget = settings.review, settings.review_budget

    def hand_out(self, limit: int) -> dict[str, Any]:
        """Rows for one person, what may be said of them, and how many may follow today."""
        handed = self._store.hand_out(limit, time.time(), self._budget)
        return {
            "rule": self._rule,
            "classes": self._info.classes,
            "budget": self._budget,
            "left": handed.left,
            "rows": [self._described(row) for row in handed.rows],
        }

    def _described(self, row: ShownRow) -> dict[str, Any]:
        info, asked = self._info, row.asked
        token = self._signer.token_of(asked.request, row.rows)
        decided = int(decide_classes(row.probabilities, self._threshold())[0])
        return {
            "prediction_id": f"{token}.{asked.row}",
            "features": _features(info, row.features),
            "probability": row.probabilities[0].tolist(),
            "decision": info.classes[decided],
            "review_probability": asked.chance,
            "why": asked.why,
            "time": asked.time,
        }


def _features(info: PackageInfo, row: NDArray[np.float32]) -> dict[str, Any]:
    """The features of a row by name, as requests give them."""
    if info.columns and not info.hidden_columns:
        [values] = Schema(info.columns).json_rows(row)
        return dict(zip((column.name for column in info.columns), values, strict=True))
    values = [None if np.isnan(value) else value for value in row[0].tolist()]
    return dict(zip(info.features, values, strict=True))
