"""Logistic regression that forgets, by Newton's method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import one_hot, single, softmax, with_one
from bento_selfheal.experts.kinds.linear import LinearExpert
from bento_selfheal.experts.kinds.solving import Matrix, solved_with_ridge

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
        """A step of each; those that see equally much take theirs in the same products."""
        truth, count = one_hot(labels, group[0].classes), weights.numpy().astype(np.float64)
        for width in dict.fromkeys(expert.seen for expert in group):
            pairs = zip(group, seen, strict=True)
            alike = [(expert, hidden) for expert, hidden in pairs if expert.seen == width]
            rows = np.stack([with_one(expert.see(hidden)) for expert, hidden in alike])
            _step([expert for expert, _ in alike], rows.astype(np.float64), truth, count)


def _step(
    group: Sequence[LogisticExpert], rows: Matrix, truth: Matrix, count: NDArray[np.float64]
) -> None:
    """A step of experts that see rows ``(experts, n, terms)``, each of which counts so often."""
    weight = np.stack([expert.weight.numpy() for expert in group]).astype(np.float64)
    said, each, turned = softmax(rows @ weight), count[:, np.newaxis], rows.swapaxes(1, 2)
    # Exact for two classes, and for many that are all as likely.
    curved = (1 - np.square(said).sum(axis=2, keepdims=True)) / (truth.shape[1] - 1)
    half_lives = np.asarray([expert.half_life for expert in group]).reshape(-1, 1, 1)
    fade = 0.5 ** (count.sum() / half_lives)
    curvature = np.stack([expert._sums["curvature"].numpy() for expert in group]) * fade
    curvature += turned @ (rows * (each * np.maximum(curved, LEAST_CURVATURE)))
    slope = turned @ (each * (truth - said))
    slope -= (1 - fade) * group[0].ridge * weight  # the prior comes back as labels are forgotten
    for i, expert in enumerate(group):
        moved = weight[i] + solved_with_ridge(curvature[i], expert.ridge, slope[i])
        expert.weight, expert._sums = single(moved), {"curvature": torch.from_numpy(curvature[i])}
