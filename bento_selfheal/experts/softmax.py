"""Softmax regression, one label after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert, Linear, with_one

DECAY = 1e-4


class SoftmaxExpert(Expert):
    """Softmax regression by normalised stochastic gradient descent (Nagumo and Noda 1967).

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        rate: Share of the way to each label that a step goes.
        most: Most that a step goes along a row: where rows are narrow, they alone would go far.
        corrects: Whether it corrects the frozen log odds or answers without them.
    """

    weight: Tensor

    def __init__(
        self, width: int, classes: int, *, rate: float, most: float = 1.0, corrects: bool = False
    ) -> None:
        super().__init__(width, classes)
        self.rate = rate
        self.most = most
        self.corrects = corrects
        self.register_buffer("weight", torch.zeros(width + 1, classes))

    def forward(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """The linear scores, upon the frozen odds where it corrects them."""
        out = with_one(hidden) @ self.weight
        return out + odds if self.corrects else out

    def linear(self) -> Linear:
        """Its weights, upon the frozen odds where it corrects them."""
        return Linear(self.weight, float(self.corrects))

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """A step for each row."""
        rows, weight = with_one(hidden).numpy(), self.weight.numpy().copy()
        offset = odds.numpy() if self.corrects else np.zeros_like(odds.numpy())
        pace = np.minimum(5 * self.rate / (1 + np.square(rows).sum(axis=1)), self.most)
        pace = pace * np.minimum(weights.numpy(), 5)
        steps = (-pace[:, np.newaxis] * rows)[:, :, np.newaxis]
        for row, start, label, step in zip(rows, offset, labels.tolist(), steps, strict=True):
            p = row @ weight + start
            p = np.exp(p - max(p.tolist()))  # quicker than np.max where there are few
            p /= sum(p.tolist())
            p[int(label)] -= 1
            weight += step * p
        weight *= np.float32(1 - self.rate * DECAY) ** len(rows)
        self.weight = torch.from_numpy(weight)
