"""Experts that are linear in what they see, and forget."""

from __future__ import annotations

import torch
from torch import Tensor

from bento_selfheal.experts.expert import with_one
from bento_selfheal.experts.kinds.narrow import NARROW, WIDEST, NarrowExpert
from bento_selfheal.experts.side_by_side import Linear


class LinearExpert(NarrowExpert):
    """Answers with linear scores of what it sees; how the weights are learned is its own matter.

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        half_life: Labels after which a label counts half.
        seed: Of the projection of a wide hidden vector.
    """

    weight: Tensor

    def __init__(self, width: int, classes: int, *, half_life: float, seed: int = 0) -> None:
        super().__init__(width, classes, widest=WIDEST, narrow=NARROW, seed=seed)
        self.half_life = half_life
        self.keep("weight", torch.zeros(self.seen + 1, classes))

    def __call__(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """The linear scores, which are log probabilities up to a constant."""
        return torch.from_numpy(with_one(self.see(hidden)) @ self.weight.numpy())

    def linear(self) -> Linear:
        """Its weights."""
        return Linear(self.widen(self.weight).numpy())
