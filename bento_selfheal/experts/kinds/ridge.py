"""Ridge regression on random features, exact and forgetting."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from bento_selfheal.experts.expert import one_hot, with_one
from bento_selfheal.experts.kinds.narrow import NARROW, WIDEST, NarrowExpert
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
            self.register_buffer("directions", directions)
            self.register_buffer("phases", torch.rand(features, generator=draw) * 2 * torch.pi)
        self.register_buffer("weight", torch.zeros(terms, classes))
        self.register_buffer("sharpness", torch.tensor([4.0]))
        self._sums = {
            "gram": torch.zeros(terms, terms, dtype=torch.float64),
            "moments": torch.zeros(terms, classes, dtype=torch.float64),
        }

    def forward(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """Scores of the classes, sharpened to log probabilities."""
        return self.sharpness * (self._terms(hidden) @ self.weight)

    def linear(self) -> Linear:
        """Its sharpened weights, of the hidden vector or of the waves."""
        weight = self.sharpness * self.weight
        if not self.curved:
            return Linear(self.widen(weight))
        loud = torch.cat([weight[:-1] * LOUD, weight[-1:]])
        return Linear(loud, waves=(self.directions, self.phases))

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fade what was learned, add the rows, and solve."""
        truth, terms = one_hot(labels, self.classes), self._terms(hidden)
        self._sharpen((terms @ self.weight).double(), truth)
        terms = terms.double()
        weighted = terms * weights.double().unsqueeze(1)
        fade = 0.5 ** (float(weights.sum()) / self.half_life)
        gram, moments = self._sums["gram"], self._sums["moments"]
        gram.addmm_(weighted.T, terms, beta=fade)
        moments.addmm_(weighted.T, truth - 1 / self.classes, beta=fade)
        damped = gram.clone()
        damped.diagonal().add_(RIDGE)
        factor = torch.linalg.cholesky(damped)
        self.weight = torch.cholesky_solve(moments, factor).float().contiguous()

    def _terms(self, hidden: Tensor) -> Tensor:
        if self.curved:
            return with_one(torch.cos(hidden @ self.directions + self.phases) * LOUD)
        return with_one(self.see(hidden))

    def _sharpen(self, scores: Tensor, truth: Tensor) -> None:
        """Fit the sharpness to rows that nothing was learned from yet."""
        sharpness = float(self.sharpness)
        for _ in range(2):
            p = torch.softmax(sharpness * scores, dim=1)
            slope = float(((p - truth) * scores).sum(dim=1).mean()) * sharpness
            sharpness = min(max(sharpness * 2.718281828 ** (-STEP * slope), LEAST), MOST)
        self.sharpness = torch.tensor([sharpness])
