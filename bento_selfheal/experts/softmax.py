"""Softmax regression, one label after the other."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert, with_one

DECAY = 1e-4


class SoftmaxExpert(Expert):
    """Softmax regression by normalised stochastic gradient descent (Nagumo and Noda 1967).

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        rate: Share of the way to each label that a step goes.
        corrects: Whether it corrects the frozen log odds or answers without them.
    """

    weight: Tensor

    def __init__(self, width: int, classes: int, *, rate: float, corrects: bool = False) -> None:
        super().__init__(width, classes)
        self.rate = rate
        self.corrects = corrects
        self.register_buffer("weight", torch.zeros(width + 1, classes))

    def forward(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """The linear scores, upon the frozen odds where it corrects them."""
        out = with_one(hidden) @ self.weight
        return out + odds if self.corrects else out

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """A step for each row."""
        rows, weight = with_one(hidden).numpy(), self.weight.numpy().copy()
        offset = odds.numpy() if self.corrects else np.zeros_like(odds.numpy())
        pace = 5 * self.rate * np.minimum(weights.numpy(), 5) / (1 + np.square(rows).sum(axis=1))
        for row, start, label, step in zip(rows, offset, labels.long().tolist(), pace, strict=True):
            z = row @ weight + start
            p = np.exp(z - z.max())
            p /= p.sum()
            p[label] -= 1
            weight -= np.outer(step * row, p).astype(np.float32) + self.rate * DECAY * weight
        self.weight = torch.from_numpy(weight)
