"""Ridge regression on random features, exact and forgetting."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import one_hot, single, softmax
from bento_selfheal.experts.kinds.narrow import NARROW, WIDEST, NarrowExpert
from bento_selfheal.experts.kinds.solving import Matrix, fade_in, solved_with_ridge
from bento_selfheal.experts.side_by_side import Linear

RIDGE = 1.0
FEATURES = 256
LOUD = 2**0.5
"""What a cosine is multiplied by, so that its mean square is 1."""
STEP, LEAST, MOST = 0.2, 0.5, 20.0
"""Step and bounds of the logarithm's argument of the sharpness."""


class RidgeExpert(NarrowExpert):
    """Least squares of the classes on random Fourier features (Rahimi and Recht 2007), with
    exponential forgetting: solved exactly, so that few labels go far.

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        half_life: Labels after which a label counts half.
        seed: Of the random features.
        features: Number of random features; 0 for the hidden vector itself.
    """

    constant = frozenset({"projection", "directions", "phases"})
    weight: Tensor
    directions: Tensor
    phases: Tensor
    sharpness: Tensor

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        half_life: float,
        seed: int = 0,
        features: int = FEATURES,
    ) -> None:
        curved = features > 0
        widest = sys.maxsize if curved else WIDEST
        super().__init__(width, classes, widest=widest, narrow=NARROW, seed=seed)
        self.half_life, self.curved = half_life, curved
        terms = (features if curved else self.seen) + 1
        if curved:
            draw = torch.Generator().manual_seed(seed)
            directions = torch.randn(width, features, generator=draw) / width**0.5
            self.keep("directions", directions)
            self.keep("phases", torch.rand(features, generator=draw) * 2 * torch.pi)
        self.keep("weight", torch.zeros(terms, classes))
        self.keep("sharpness", torch.tensor([4.0]))
        self._sums = {
            "gram": torch.zeros(terms, terms, dtype=torch.float64),
            "moments": torch.zeros(terms, classes, dtype=torch.float64),
        }

    def __call__(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """Scores of the classes, sharpened to log probabilities."""
        return torch.from_numpy(self._terms(hidden) @ self._sharpened())

    def linear(self) -> Linear:
        """Its sharpened weights, of the hidden vector or of the waves."""
        weight = self._sharpened()
        if not self.curved:
            return Linear(self.widen(torch.from_numpy(weight)).numpy())
        weight[:-1] *= LOUD
        return Linear(weight, waves=(self.directions.numpy(), self.phases.numpy()))

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fade what was learned, add the rows, and solve."""
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
        """Each fades what it learned, adds the rows, and solves."""
        truth, count = one_hot(labels, group[0].classes), weights.numpy().astype(np.float64)
        terms = [expert._terms(hidden) for expert, hidden in zip(group, seen, strict=True)]
        said = [own @ expert.weight.numpy() for expert, own in zip(group, terms, strict=True)]
        before = np.asarray([float(expert.sharpness) for expert in group])
        sharpness = _sharper(before, np.stack(said).astype(np.float64), truth)
        for expert, own, sharp in zip(group, terms, sharpness.tolist(), strict=True):
            expert.sharpness = torch.tensor([sharp])
            expert._add(own.astype(np.float64), truth, count)

    def _add(self, rows: Matrix, truth: Matrix, count: NDArray[np.float64]) -> None:
        """Add rows ``(n, terms + 1)``, each of which counts so often, and solve."""
        weighted = rows * count[:, np.newaxis]
        fade = 0.5 ** (float(count.sum()) / self.half_life)
        gram, moments = self._sums["gram"].numpy(), self._sums["moments"].numpy()
        fade_in(gram, fade, weighted, rows)
        fade_in(moments, fade, weighted, truth - 1 / self.classes)
        self.weight = single(solved_with_ridge(gram, RIDGE, moments))

    def _sharpened(self) -> NDArray[np.float32]:
        return np.asarray(self.sharpness.numpy() * self.weight.numpy())

    def _terms(self, hidden: Tensor) -> NDArray[np.float32]:
        """What it is linear in, and a one, ``(n, terms + 1)``."""
        seen = self.see(hidden).numpy()
        terms = np.ones((len(seen), len(self.weight)), dtype=np.float32)
        if self.curved:
            angles = seen @ self.directions.numpy() + self.phases.numpy()
            seen = np.cos(angles, out=angles)
            seen *= LOUD
        terms[:, :-1] = seen
        return terms


def _sharper(sharpness: NDArray[np.float64], scores: Matrix, truth: Matrix) -> NDArray[np.float64]:
    """The sharpness of each fitted to rows that nothing was learned from yet, ``(experts,)``.

    Args:
        sharpness: Those of before.
        scores: What each says, ``(experts, n, classes)``.
        truth: Labels as rows of 0 and 1, ``(n, classes)``.
    """
    for _ in range(2):
        missed = softmax(sharpness[:, np.newaxis, np.newaxis] * scores) - truth
        slope = (missed * scores).sum(axis=(1, 2)) / len(truth) * sharpness
        sharpness = np.clip(sharpness * np.exp(-STEP * slope), LEAST, MOST)
    return sharpness
