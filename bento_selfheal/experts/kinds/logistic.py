"""Logistic regression that forgets, by Newton's method."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bento_selfheal.experts.expert import doubled, one_hot, single, softmax
from bento_selfheal.experts.kinds.linear import LinearExpert
from bento_selfheal.experts.kinds.solving import fade_in, solved_with_ridge

PRIOR = 5.0
"""Variance of the log odds that the prior allows: the more columns, the smaller each weight."""
LEAST_CURVATURE = 0.02
"""Of a row that all classes but one are ruled out for: a sure mistake must not lead too far."""


class LogisticExpert(LinearExpert):
    """Multinomial logistic regression; each batch of labels is one Newton step from what was
    known, whose curvature fades as its rows grow old.

    It knows from the curvature which weights are well known and which ones are not, so that a
    world that moves is followed within few labels (an extended Kalman filter that forgets, as in
    Penny and Roberts 1999).
    """

    def __init__(self, width: int, classes: int, *, half_life: float, seed: int = 0) -> None:
        super().__init__(width, classes, half_life=half_life, seed=seed)
        self.ridge = max(self.seen / PRIOR, 1.0)
        terms = self.seen + 1
        self._sums = {"curvature": torch.zeros(terms, terms, dtype=torch.float64)}

    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Fade what was learned, add the rows' curvature, and take a step."""
        rows, weight = doubled(self.see(hidden)), self.weight.numpy().astype(np.float64)
        said, count = softmax(rows @ weight), weights.numpy().astype(np.float64)[:, np.newaxis]
        # Exact for two classes, and for many that are all as likely.
        curved = (1 - np.square(said).sum(axis=1, keepdims=True)) / (self.classes - 1)
        fade = 0.5 ** (float(weights.sum()) / self.half_life)
        curvature = self._sums["curvature"].numpy()
        fade_in(curvature, fade, rows * (count * np.maximum(curved, LEAST_CURVATURE)), rows)
        slope = rows.T @ (count * (one_hot(labels, self.classes) - said))
        slope -= (1 - fade) * self.ridge * weight  # the prior comes back as labels are forgotten
        moved = weight + solved_with_ridge(curvature, self.ridge, slope)
        self.weight = single(moved)
