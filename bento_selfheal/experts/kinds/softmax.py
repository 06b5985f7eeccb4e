"""Softmax regression, one label after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import Expert, single, with_one
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
        return single(self._scores(with_one(hidden), odds.numpy()))

    def linear(self) -> Linear:
        """Its weights, upon the frozen odds where it corrects them."""
        return Linear(self.weight.numpy(), float(self.corrects))

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """A step for each row."""
        self.learn_together([self], [hidden], odds, labels, weights)

    @classmethod
    def learn_together(
        cls,
        group: Sequence[Self],
        seen: Sequence[Tensor],
        odds: Tensor,
        labels: Tensor,
        weights: Tensor,
    ) -> None:
        """A step of each for each row."""
        for at in range(0, len(labels), AT_ONCE):
            part = slice(at, at + AT_ONCE)
            count, rows = weights[part].numpy(), [with_one(hidden[part]) for hidden in seen]
            each = list(zip(group, rows, strict=True))
            paces = [expert._pace(own, count) for expert, own in each]
            # From how alike rows are follows what a step does to the others: weights move once.
            moves = [(own @ own.T) * pace for own, pace in zip(rows, paces, strict=True)]
            scores = [expert._scores(own, odds[part].numpy()) for expert, own in each]
            missed = _missed(np.stack(scores), np.stack(moves), labels[part].tolist())
            for (expert, own), pace, wrong in zip(each, paces, missed, strict=True):
                expert._move(own, pace[:, np.newaxis] * wrong)

    def _scores(self, rows: NDArray[np.float32], odds: NDArray[np.float32]) -> NDArray[np.float64]:
        said = rows @ self.weight.numpy()
        return np.asarray(said + odds if self.corrects else said, dtype=np.float64)

    def _pace(self, rows: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """How far a step goes along each row, ``(n,)``."""
        lengths = np.square(rows).sum(axis=1, dtype=np.float64)
        pace = np.minimum(5 * self.rate / (1 + lengths), self.most) * np.minimum(weights, 5)
        return np.asarray(pace, dtype=np.float64)

    def _move(self, rows: NDArray[np.float32], steps: NDArray[np.float64]) -> None:
        """Go all steps at once."""
        moved = self.weight.numpy() - rows.T @ steps.astype(np.float32)
        moved *= np.float32(1 - self.rate * DECAY) ** len(rows)
        self.weight = torch.from_numpy(moved)


def _missed(
    scores: NDArray[np.float64], moves: NDArray[np.float64], labels: list[float]
) -> NDArray[np.float64]:
    """Probabilities less labels, each after the steps before it, ``(experts, n, classes)``.

    Args:
        scores: Those before the first step, ``(experts, n, classes)``.
        moves: What a step along each takes from the scores of the others, ``(experts, n, n)``.
        labels: Indices of classes, ``(n,)``.
    """
    missed = np.zeros_like(scores)
    for i, label in enumerate(labels):
        said = scores[:, i] - (moves[:, i : i + 1, :i] @ missed[:, :i])[:, 0]
        # Methods of NumPy take as long as what they compute for few numbers.
        powers = np.exp(said - np.maximum.reduce(said, axis=1, keepdims=True))
        powers /= np.add.reduce(powers, axis=1, keepdims=True)
        powers[:, int(label)] -= 1
        missed[:, i] = powers
    return missed
