"""The anchor of a heal: the frozen shadow, recalibrated on recent labels.

A few dozen labels cannot teach thousands of weights, but they can say what the shadow's own
scores mean today, be it the opposite of what they meant. So the shadow's log odds go through
one quadratic a class, fitted by penalised maximum likelihood (Platt scaling with a square;
Kull et al. 2019 for many classes), and what comes out are soft labels that a heal leans on
until it has seen enough labels of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .answers import from_logits, logits

RIDGE = 1.0
REACH = 4.0
STEPS = 25


class Anchor:
    """A map from the shadow's probabilities to probabilities as recent labels have them.

    Args:
        probabilities: The shadow's answers, ``(n,)`` or ``(n, classes)``.
        truth: Labels in the same shape, 0 or 1.
        weights: Weight of each row, ``(n,)``.
        degree: 2, or 1 for Platt's scaling without the square.

    >>> p = torch.tensor([0.1, 0.2, 0.8, 0.9]).repeat(50)
    >>> turned = Anchor(p, 1 - p.round(), torch.ones(200))
    >>> turned(torch.tensor([0.1, 0.9])).round().tolist()
    [1.0, 0.0]
    """

    def __init__(
        self, probabilities: Tensor, truth: Tensor, weights: Tensor, degree: int = 2
    ) -> None:
        z, w = logits(probabilities), weights.double()
        share = (w / w.sum()).unsqueeze(1)
        self._mean = (share * z).sum(dim=0)
        self._spread = (share * (z - self._mean).square()).sum(dim=0).sqrt().clamp_min(1e-3)
        self._degree = degree
        identity = torch.zeros(z.shape[1], degree + 1, dtype=torch.float64)
        identity[:, 0], identity[:, 1] = self._mean, self._spread
        y = truth.double() if truth.ndim == 2 else truth.double().unsqueeze(1)
        self._weights = _fit(self._basis(z), y, w, identity)

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Recalibrated probabilities in the shape that they came in."""
        z = (self._basis(logits(probabilities)) * self._weights).sum(dim=2)
        return from_logits(z).float()

    def _basis(self, z: Tensor) -> Tensor:
        """Powers of standardised log odds, ``(n, columns, degree + 1)``."""
        u = ((z - self._mean) / self._spread).clamp(-REACH, REACH)
        return torch.stack([u**i for i in range(self._degree + 1)], dim=2)


def _fit(basis: Tensor, y: Tensor, w: Tensor, start: Tensor) -> Tensor:
    """Newton's method with halved steps on a convex loss; ridge towards the identity."""

    def loss(theta: Tensor) -> float:
        z = (basis * theta).sum(dim=2)
        normaliser = (
            torch.nn.functional.softplus(z[:, 0]) if z.shape[1] == 1 else z.logsumexp(dim=1)
        )
        fit = (w * (normaliser - (y * z).sum(dim=1))).sum()
        return float(fit + RIDGE / 2 * (theta - start).square().sum())

    theta, now = start, loss(start)
    for _ in range(STEPS):
        step = _newton_step(basis, y, w, theta, start)
        size = 1.0
        while size > 1e-3 and loss(theta - size * step) > now:
            size /= 2
        if size <= 1e-3:
            break
        theta = theta - size * step
        before, now = now, loss(theta)
        if before - now < 1e-6:
            break
    return theta


def _newton_step(basis: Tensor, y: Tensor, w: Tensor, theta: Tensor, start: Tensor) -> Tensor:
    columns, terms = theta.shape
    z = (basis * theta).sum(dim=2)
    p = torch.sigmoid(z) if columns == 1 else torch.softmax(z, dim=1)
    gradient = torch.einsum("n,nk,nki->ki", w, p - y, basis) + RIDGE * (theta - start)
    spread = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    curvature = torch.einsum("n,nkl,nki,nlj->kilj", w, spread, basis, basis)
    curvature = curvature.reshape(columns * terms, columns * terms)
    curvature = curvature + RIDGE * torch.eye(columns * terms, dtype=torch.float64)
    step: Tensor = torch.linalg.solve(curvature, gradient.reshape(-1))
    return step.reshape(columns, terms)
