"""Recalibration of probabilities by labels: Platt scaling, with a square term on request."""

from __future__ import annotations

import torch
from torch import Tensor

from bento_selfheal.scoring.logistic import REACH, fit
from bento_selfheal.scoring.probabilities import from_logits, logits

RIDGE = 1.0


class Recalibration:
    """A map from a model's probabilities to probabilities calibrated by labels.

    One polynomial per class maps the log odds (Platt 1999; Kull et al. 2019 for many classes),
    with a penalty that pulls it towards the identity.

    Args:
        probabilities: The model's answers, ``(n,)`` or ``(n, classes)``.
        truth: Labels in the same shape, 0 or 1.
        weights: Weight of each row, ``(n,)``.
        degree: 2, or 1 for Platt's scaling without the square.

    >>> p = torch.tensor([0.1, 0.2, 0.8, 0.9]).repeat(50)
    >>> turned = Recalibration(p, 1 - p.round(), torch.ones(200))
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
        ridge = torch.full((degree + 1,), RIDGE, dtype=torch.float64)
        start = torch.zeros(z.shape[1], degree + 1, dtype=torch.float64)
        self._weights = fit(z, self._basis(z), truth, w, ridge, start)

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Recalibrated probabilities, in the shape of the input."""
        z = logits(probabilities)
        return from_logits(z + (self._basis(z) * self._weights).sum(dim=2)).float()

    def _basis(self, z: Tensor) -> Tensor:
        """Powers of standardised log odds, ``(n, columns, degree + 1)``."""
        u = ((z - self._mean) / self._spread).clamp(-REACH, REACH)
        return torch.stack([u**i for i in range(self._degree + 1)], dim=2)
