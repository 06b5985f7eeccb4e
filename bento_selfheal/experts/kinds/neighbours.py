"""The nearest of the newest labelled rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bento_selfheal.experts.kinds.narrow import NarrowExpert

NEAREST = 8
DOUBT = 0.5
"""Votes that all classes share beside those of the neighbours."""
NEAR = 0.01
"""Least square of the distance at which a vote falls to 0: rounding must not decide between
twins."""
MOST_WIDTH = 128
"""Wider hidden vectors are projected to this width."""


class NeighboursExpert(NarrowExpert):
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

    def __init__(self, width: int, classes: int, *, window: int, seed: int = 0) -> None:
        super().__init__(width, classes, widest=MOST_WIDTH, narrow=MOST_WIDTH, seed=seed)
        self.window = window
        self._known = torch.zeros(0, 0), torch.zeros(0)
        self.keep("rows", torch.zeros(0, self.seen))
        self.keep("labels", torch.zeros(0, dtype=torch.int64))

    def __call__(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """Logarithms of the votes, or the frozen odds while there are too few rows."""
        if len(self.rows) <= NEAREST:
            return odds
        seen, rows, n = self.see(hidden), self.rows, len(hidden)
        alike = torch.addmm(self._squares(), seen, rows.T, alpha=-2)
        least, nearest = alike.topk(NEAREST + 1, dim=1, largest=False)
        squares = least.numpy() + np.square(seen.numpy()).sum(axis=1, keepdims=True)
        squares = np.maximum(squares, 0)
        votes = 1 - squares[:, :-1] / np.maximum(squares[:, -1:], NEAR)
        known = self.labels.numpy()[nearest.numpy()[:, :-1]]
        classes = known + self.classes * np.arange(n)[:, np.newaxis]
        counts = np.bincount(classes.ravel(), votes.ravel(), minlength=n * self.classes)
        shares = counts.reshape(n, self.classes) + DOUBT / self.classes
        return torch.from_numpy(np.log(shares).astype(np.float32))

    def _squares(self) -> Tensor:
        """Squared lengths of the rows, computed once for as long as they stay."""
        if self._known[0] is not self.rows:
            self._known = self.rows, self.rows.square().sum(dim=1)
        return self._known[1]

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Take the rows; the oldest go."""
        self.rows = torch.cat([self.rows, self.see(hidden)])[-self.window :]
        self.labels = torch.cat([self.labels, labels.long()])[-self.window :]
