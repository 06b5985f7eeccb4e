"""How strongly one feature tells the classes apart, from counts of its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassCounts:
    """How often each class comes with each value of one feature.

    Attributes:
        values: Distinct values, rising, ``(u,)``, in the feature's own unit.
        counts: Rows of each class at each value, ``(u, classes)``.
    """

    values: Floats
    counts: Floats

    @classmethod
    def of(cls, column: NDArray[np.float32], y: NDArray[np.int64], classes: int) -> ClassCounts:
        """Count the rows ``(n,)`` of one feature, with classes 0 to ``classes - 1``."""
        values, where = np.unique(column, return_inverse=True)
        counts = np.bincount(where * classes + y, minlength=len(values) * classes)
        return cls(values.astype(np.float64), counts.reshape(-1, classes).astype(np.float64))

    def _separation(self) -> tuple[Floats, Floats]:
        """``2·AUC - 1`` of each class, ``(classes,)``, and its spread under no relation."""
        size = self.counts.sum(axis=0)
        at = self.counts.sum(axis=1)
        total = at.sum()
        ranks = np.cumsum(at) - (at - 1) / 2
        pairs = size * (total - size)
        excess = self.counts.T @ ranks - size * (total + 1) / 2
        ties = (at**3 - at).sum() / max(total * (total - 1), 1)
        spread = np.sqrt(pairs * max(total + 1 - ties, 0) / 12)
        pairs = np.maximum(pairs, 1)  # a class with no row, or with all: no excess either
        return 2 * excess / pairs, 2 * spread / pairs

    def strength(self) -> float:
        """Strength of the feature, 0 to 1."""
        return min(float(np.abs(self._separation()[0]).max()), 1.0)

    def surprise(self) -> float:
        """The strongest class's separation, in spreads of what shuffled labels give."""
        separation, spread = self._separation()
        return float((np.abs(separation) / np.where(spread > 0, spread, np.inf)).max())
