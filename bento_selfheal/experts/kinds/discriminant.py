"""Linear discriminant analysis that forgets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bento_selfheal.experts.expert import one_hot, single
from bento_selfheal.experts.kinds.linear import LinearExpert
from bento_selfheal.experts.kinds.solving import Matrix, fade_in, solved

SHRINKAGE = 0.1
"""Least share of a multiple of the identity in the covariance (Friedman 1989); it grows where there
are few rows for the width."""
UNSEEN = 0.1
"""Rows that a class counts as having when it has none."""
SMALLEST = 1e-3


class DiscriminantExpert(LinearExpert):
    """Classes as normal distributions with one covariance, all of newer labels more than of older.

    A class that moves as a whole is followed by its mean alone, which few labels tell.
    """

    def __init__(self, width: int, classes: int, *, half_life: float, seed: int = 0) -> None:
        super().__init__(width, classes, half_life=half_life, seed=seed)
        self._sums = {
            "counts": torch.zeros(classes, dtype=torch.float64),
            "totals": torch.zeros(classes, self.seen, dtype=torch.float64),
            "gram": torch.zeros(self.seen, self.seen, dtype=torch.float64),
        }

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fade what was learned, add the rows, and solve."""
        rows = self.see(hidden).numpy().astype(np.float64)
        counts = weights.numpy().astype(np.float64)
        members = one_hot(labels, self.classes) * counts[:, np.newaxis]
        fade = 0.5 ** (float(weights.sum()) / self.half_life)
        sums = {name: value.numpy() for name, value in self._sums.items()}
        sums["counts"] *= fade
        sums["counts"] += members.sum(axis=0)
        fade_in(sums["totals"], fade, members, rows)
        fade_in(sums["gram"], fade, rows * counts[:, np.newaxis], rows)
        self.weight = single(self._solve(**sums))

    def _solve(self, counts: Matrix, totals: Matrix, gram: Matrix) -> Matrix:
        """The weights that follow from the sums."""
        rows = float(counts.sum())
        # A class without rows stands where all of them do.
        means = (totals + UNSEEN / rows * totals.sum(axis=0)) / (counts + UNSEEN)[:, np.newaxis]
        within = (gram - (means.T * counts) @ means) / rows
        size = max(float(within.trace()) / self.seen, 0.0) + SMALLEST
        share = max(SHRINKAGE, self.seen / (self.seen + rows) / 2)
        slopes = solved((1 - share) * within + share * size * np.eye(self.seen), means.T)
        chances = np.log((counts + UNSEEN) / (rows + UNSEEN * self.classes))
        return np.vstack([slopes, chances - (means.T * slopes).sum(axis=0) / 2])
