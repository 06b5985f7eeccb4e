"""The nearest of the newest labelled rows."""

from __future__ import annotations

import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert

NEAREST = 8
DOUBT = 0.5
"""Votes that all classes share beside those of the neighbours."""
NEAR = 1e-6
EXACT = "donot_use_mm_for_euclid_dist"
"""By matrix products the distance of a row from itself would not be 0."""
MOST_WIDTH = 128
"""Wider hidden vectors are projected at random to this width, which keeps distances."""


class NeighboursExpert(Expert):
    """Votes of the nearest labelled rows, the less the farther they are.

    A vote falls to 0 at the distance of the next row that has none, so that answers change little
    where the order of two neighbours does.

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        window: Labelled rows kept, the newest.
        seed: Of the projection of a wide hidden vector.
    """

    growing = frozenset({"rows", "labels"})
    rows: Tensor
    labels: Tensor
    projection: Tensor

    def __init__(self, width: int, classes: int, *, window: int, seed: int = 0) -> None:
        super().__init__(width, classes)
        self.window = window
        self.narrow = width > MOST_WIDTH
        kept = MOST_WIDTH if self.narrow else width
        if self.narrow:
            draw = torch.Generator().manual_seed(seed)
            self.register_buffer("projection", torch.randn(width, kept, generator=draw) / kept**0.5)
        self.register_buffer("rows", torch.zeros(0, kept))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))

    def forward(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """Logarithms of the votes, or the frozen odds while there are too few rows."""
        if len(self.rows) <= NEAREST:
            return odds
        distances = torch.cdist(self._seen(hidden), self.rows, compute_mode=EXACT)
        nearest = distances.topk(NEAREST + 1, dim=1, largest=False)
        farthest = nearest.values[:, -1:].clamp_min(NEAR)
        votes = 1 - (nearest.values[:, :-1] / farthest).square()
        counts = torch.full((len(hidden), self.classes), DOUBT / self.classes, device=hidden.device)
        counts.scatter_add_(1, self.labels[nearest.indices[:, :-1]], votes)
        return counts.log()

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Take the rows; the oldest go."""
        self.rows = torch.cat([self.rows, self._seen(hidden)])[-self.window :]
        self.labels = torch.cat([self.labels, labels.long()])[-self.window :]

    def _seen(self, hidden: Tensor) -> Tensor:
        return hidden @ self.projection if self.narrow else hidden
