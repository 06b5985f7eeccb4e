"""Logistic regression that forgets, by Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor

from bento_selfheal.experts.expert import one_hot, with_one
from bento_selfheal.experts.kinds.linear import LinearExpert

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
        rows, weight = with_one(self.see(hidden)).double(), self.weight.double()
        said = torch.softmax(rows @ weight, dim=1)
        # Exact for two classes, and for many that are all as likely.
        curved = ((1 - said.square().sum(dim=1)) / (self.classes - 1)).clamp_min(LEAST_CURVATURE)
        count = weights.double().unsqueeze(1)
        fade = 0.5 ** (float(weights.sum()) / self.half_life)
        curvature = self._sums["curvature"]
        curvature.addmm_((rows * count * curved.unsqueeze(1)).T, rows, beta=fade)
        slope = rows.T @ (count * (one_hot(labels, self.classes) - said))
        slope -= (1 - fade) * self.ridge * weight  # the prior comes back as labels are forgotten
        damped = curvature.clone()
        damped.diagonal().add_(self.ridge)
        moved = torch.cholesky_solve(slope, torch.linalg.cholesky(damped))
        self.weight = (weight + moved).float().contiguous()
