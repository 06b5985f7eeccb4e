"""The anchor of a heal: the baseline, corrected by a few weights on recent labels.

A few dozen labels cannot teach thousands of weights, but they can say what the baseline's own
scores mean today, be it the opposite of what they meant, and where the features that move have
come to matter. So the baseline's log odds are corrected by a sum over themselves, those features,
and the squares and products of these, in a convex fit that forgets. What comes out are soft
labels: a heal leans on them wholly at first and less the more labels it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.inputs.counts import Aspect
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.logistic import REACH, fit
from bento_selfheal.scoring.probabilities import from_logits, logits
from bento_selfheal.standardize import Standardize

OWN = 3
"""Terms without a feature: the constant, the log odds, their square."""
MOST_WEIGHTS, MOST_PAIRED = 256, 64
"""Weights in all; terms of the features up to which each pair of them has one."""
FREE = 0.05
"""Ridge of the constant term: a shift of all odds is soon believed."""
REFITS = 40
"""Fits in a half-life."""


class Basis:
    """The terms of a row: 1, the baseline's log odds and its square, features, and as far as there
    is room for weights, their squares and their products.

    Args:
        said: The baseline's answers on the rows that say what is usual, ``(m,)`` or
            ``(m, classes)``.
        columns: The features that take part, the first ones where there is no room for all.
        mean: Their usual means.
        std: Their usual spreads; one of 0 divides nothing.
    """

    def __init__(
        self,
        said: Tensor,
        columns: Sequence[int] = (),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        z = logits(said)
        self._centre, self._spread = z.mean(dim=0), z.std(dim=0, correction=0).clamp_min(1e-3)
        self.classes = z.shape[1]
        n, room = len(columns), MOST_WEIGHTS // self.classes - OWN
        self._columns = list(columns)[:room]
        kept = slice(len(self._columns))
        self._pairs = torch.zeros(0, 2, dtype=torch.int64)
        if n + n * (n + 1) // 2 <= min(room, MOST_PAIRED):
            self._pairs = torch.combinations(torch.arange(n), 2, with_replacement=True)
        elif 2 * n <= room:
            self._pairs = torch.arange(n).unsqueeze(1).expand(-1, 2)
        self._scale = Standardize(
            torch.tensor(list(mean)[kept], dtype=torch.float64),
            torch.tensor(list(std)[kept], dtype=torch.float64),
        )
        self.terms = OWN + len(self._columns) + len(self._pairs)

    @classmethod
    def of(cls, package: Package) -> Basis:
        """With the features that the package watches, and those that never moved before."""
        rows = package.reference_rows
        watched = zip(package.sensitive_columns, package.info.calibration, strict=True)
        known = {place: one for place, one in watched if one.of is Aspect.VALUE}
        still = [c for c in range(rows.shape[1]) if c not in known and not np.ptp(rows[:, c])]
        columns = [*known, *still]
        mean = [known[c].mean if c in known else float(rows[0, c]) for c in columns]
        std = [known[c].std if c in known else 0.0 for c in columns]
        return cls(torch.from_numpy(package.baseline(rows)), columns, mean, std)

    def __call__(self, z: Tensor, features: NDArray[np.float32]) -> Tensor:
        """Terms for log odds ``(n, columns)`` and features ``(n, features)``,
        ``(n, columns, terms)``."""
        u = ((z - self._centre) / self._spread).clamp(-REACH, REACH)
        x = self._scale(torch.from_numpy(features[:, self._columns]).double())
        x = x.nan_to_num(nan=0.0).clamp(-REACH, REACH)  # a missing number is the usual one
        products = x[:, self._pairs[:, 0]] * x[:, self._pairs[:, 1]]
        terms, single = u.new_empty(*u.shape, self.terms), OWN + len(self._columns)
        terms[:, :, :OWN] = torch.stack([torch.ones_like(u), u, u.square()], dim=2)
        terms[:, :, OWN:single] = x.unsqueeze(1)
        terms[:, :, single:] = products.unsqueeze(1)
        return terms


class Anchor:
    """The baseline as recent labels have it.

    Args:
        basis: The terms.
        ridge: Penalty on each weight but the constant's.

    Attributes:
        weights: ``(columns, terms)``
        fitted: Labels that the line had seen at the last fit.
    """

    def __init__(self, basis: Basis, ridge: float = 0.5) -> None:
        self._basis = basis
        self.classes = basis.classes
        self._ridge = torch.full((basis.terms,), ridge, dtype=torch.float64)
        self._ridge[0] = min(FREE, ridge)
        self.weights = torch.zeros(basis.classes, basis.terms, dtype=torch.float64)
        self.fitted = 0

    def due(self, seen: int, half_life: float) -> bool:
        """Whether enough labels came since the last fit for another one."""
        return self.fitted == 0 or seen - self.fitted >= half_life / REFITS

    def fit(
        self, said: Tensor, features: NDArray[np.float32], truth: Tensor, weights: Tensor, seen: int
    ) -> None:
        """Fit to labelled rows, from the weights that stand; always on the CPU, it is small.

        Args:
            said: What the baseline says of them, ``(n,)`` or ``(n, classes)``.
            features: ``(n, features)``
            truth: Labels in the shape of ``said``, 0 or 1.
            weights: Weight of each row, ``(n,)``.
            seen: Labels that the line has seen.
        """
        z = logits(said.cpu())
        terms = self._basis(z, features)
        weights = weights.cpu().double()
        self.weights = fit(z, terms, truth.cpu(), weights, self._ridge, self.weights)
        self.fitted = seen

    def __call__(self, said: Tensor, features: NDArray[np.float32]) -> Tensor:
        """Soft labels in the shape, and on the device, of what the baseline says."""
        z = logits(said.cpu())
        soft = from_logits(z + (self._basis(z, features) * self.weights).sum(dim=2)).float()
        return soft.to(said.device)
