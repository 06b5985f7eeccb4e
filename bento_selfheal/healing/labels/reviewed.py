"""What labels stand for where only some rows are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.labels.join import JoinedRow


@dataclass(frozen=True)
class Reviewed:
    """What the labels of a batch stand for, in its order."""

    weights: NDArray[np.float64] | None
    """Rows that each label stands for, ``(n,)``; None where each stands for its own alone"""
    proves: NDArray[np.bool_]
    """Which rows a test of what is better may count, ``(n,)``: those that were asked for, beside
    which no row is never asked for"""
    scale: NDArray[np.float64]
    """What a difference of losses on each row counts in such a test, ``(n,)``: its weight times a
    share that is known before the row is, so that the mean has the sign of that over all rows. What
    a policy asks for counts 1 at most; of the review queue a row counts 1 on average, and one that
    tells little, and was rarely asked for, up to 1 / `AT_RANDOM`."""
    likeliest: NDArray[np.float64]
    """How likely the likeliest rows around each were to be asked for, ``(n,)``"""
    watched: NDArray[np.float64]
    """The same in a test that only ever takes something back: beside rows that are never asked for,
    those that are speak for themselves"""

    @classmethod
    def of(cls, rows: Sequence[JoinedRow]) -> Reviewed:
        """What the labels of these rows stand for."""
        weights = np.asarray([row.weight for row in rows], dtype=np.float64)
        explored = np.asarray([row.explored for row in rows], dtype=np.float64)
        scale = weights * explored
        return cls(
            None if (weights == 1).all() else weights,
            (weights > 0) & (explored > 0),
            scale,
            np.asarray([row.likeliest for row in rows], dtype=np.float64),
            np.where(explored > 0, scale, np.minimum(weights, 1.0)),
        )
