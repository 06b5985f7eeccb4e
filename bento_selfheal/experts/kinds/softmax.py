"""Softmax regression, one label after the other."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import Expert, with_one
from bento_selfheal.experts.side_by_side import Linear

DECAY = 1e-4
AT_ONCE = 50
"""Most steps for which it is known together how alike their rows are."""


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
        self.keep("weight", torch.zeros(width + 1, classes))

    def __call__(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """The linear scores, upon the frozen odds where it corrects them."""
        out = with_one(hidden) @ self.weight
        return out + odds if self.corrects else out

    def linear(self) -> Linear:
        """Its weights, upon the frozen odds where it corrects them."""
        return Linear(self.weight.numpy(), float(self.corrects))

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """A step for each row."""
        for at in range(0, len(labels), AT_ONCE):
            part = slice(at, at + AT_ONCE)
            self._step(hidden[part], odds[part], labels[part].tolist(), weights[part].numpy())

    def _step(
        self, hidden: Tensor, odds: Tensor, labels: list[float], weights: NDArray[np.float32]
    ) -> None:
        """Steps that follow each other.

        What a step does to the scores of later rows follows from how alike the rows are, so the
        weights move once.
        """
        rows, scores = with_one(hidden).numpy(), self(hidden, odds).numpy().astype(np.float64)
        alike = rows @ rows.T
        pace = np.minimum(5 * self.rate / (1 + alike.diagonal()), self.most)
        pace = pace * np.minimum(weights, 5)
        moves, missed = alike.astype(np.float64) * pace, np.zeros_like(scores)
        for i, label in enumerate(labels):
            said = (scores[i] - moves[i, :i] @ missed[:i]).tolist()
            most = max(said)
            powers = [math.exp(score - most) for score in said]  # NumPy's takes longer for few
            total = sum(powers)
            shares = [power / total for power in powers]
            shares[int(label)] -= 1
            missed[i] = shares
        moved = self.weight.numpy() - rows.T @ (pace[:, np.newaxis] * missed).astype(np.float32)
        moved *= np.float32(1 - self.rate * DECAY) ** len(rows)
        self.weight = torch.from_numpy(moved)
