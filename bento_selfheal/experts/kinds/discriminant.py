"""Linear discriminant analysis that forgets."""

from __future__ import annotations

import torch
from torch import Tensor

from bento_selfheal.experts.expert import one_hot
from bento_selfheal.experts.kinds.linear import LinearExpert

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
        rows = self.see(hidden).double()
        members = one_hot(labels, self.classes) * weights.double().unsqueeze(1)
        fade = 0.5 ** (float(weights.sum()) / self.half_life)
        fresh = {
            "counts": members.sum(dim=0),
            "totals": members.T @ rows,
            "gram": (rows * weights.double().unsqueeze(1)).T @ rows,
        }
        self._sums = {name: value * fade + fresh[name] for name, value in self._sums.items()}
        self.weight = self._solve().float().contiguous()

    def _solve(self) -> Tensor:
        counts, totals = self._sums["counts"], self._sums["totals"]
        rows = counts.sum()
        # A class without rows stands where all of them do.
        means = (totals + UNSEEN * totals.sum(dim=0) / rows) / (counts + UNSEEN).unsqueeze(1)
        within = (self._sums["gram"] - (means.T * counts) @ means) / rows
        size = within.diagonal().mean().clamp_min(0) + SMALLEST
        share = max(SHRINKAGE, self.seen / (self.seen + float(rows)) / 2)
        covariance = (1 - share) * within + share * size * torch.eye(self.seen, dtype=torch.float64)
        slopes = torch.linalg.solve(covariance, means.T)
        chances = ((counts + UNSEEN) / (rows + UNSEEN * self.classes)).log()
        return torch.cat([slopes, (chances - (means.T * slopes).sum(dim=0) / 2).unsqueeze(0)])
