"""Losses of answers, row by row."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.class_probabilities import columns, normalised
from bento_selfheal.core.decision import Numbers, decide_classes
from bento_selfheal.scoring.scores import Scores


def brier(probabilities: Numbers, labels: Numbers) -> NDArray[np.float64]:
    """Brier score of each row, in [0, 1]; half the squared distance where classes are many.

    Probabilities of many classes that do not sum to 1, which logs of earlier releases have, are
    scaled as the model scales them now.

    >>> brier(np.asarray([0.9, 0.9]), np.asarray([1.0, 0.0])).round(2).tolist()
    [0.01, 0.81]
    """
    # The service lets a probability lie outside by rounding.
    p, y = np.asarray(probabilities, dtype=np.float64).clip(0, 1), np.asarray(labels)
    if p.ndim == 1:
        return np.asarray((p - y) ** 2)
    p = normalised(torch.from_numpy(p)).numpy()
    p = p / p.sum(axis=1, keepdims=True)
    truth = np.eye(p.shape[1])[y.astype(np.int64)]
    return np.asarray(((p - truth) ** 2).sum(axis=1) / 2)


BRIER = 0.75
"""Share of the Brier score in the loss. It shows a gain soonest; the rest is what mistakes cost."""


def row_losses(
    probabilities: Numbers, labels: Numbers, costs: Thresholds, threshold: float | None = None
) -> NDArray[np.float64]:
    """The losses that the gate compares: three quarters Brier score, one quarter cost, ``(n,)``.

    They lie in [0, 1]; the more expensive mistake costs 1. Decisions are taken at the Bayes
    threshold of the costs by default.
    """
    at = costs.bayes_threshold if threshold is None else threshold
    said, true = decide_classes(probabilities, at), np.asarray(labels)
    dear = max(costs.miss_cost, costs.alarm_cost)
    price = np.where(true > 0, costs.miss_cost, costs.alarm_cost) / dear
    return np.asarray(BRIER * brier(probabilities, labels) + (1 - BRIER) * price * (said != true))


def losses_by_class(probabilities: NDArray[np.float32], costs: Thresholds) -> NDArray[np.float64]:
    """`row_losses` of each row for each class that its label may name, ``(n, classes)``.

    >>> losses_by_class(np.asarray([0.8], dtype=np.float32), Thresholds()).round(2).tolist()
    [[0.73, 0.03]]
    """
    chances = _chances(probabilities)
    said = decide_classes(probabilities, costs.bayes_threshold)
    classes = np.arange(chances.shape[1])
    missed = (np.square(chances).sum(axis=1, keepdims=True) - 2 * chances + 1) / 2
    dear = max(costs.miss_cost, costs.alarm_cost)
    price = np.where(classes > 0, costs.miss_cost, costs.alarm_cost) / dear
    return np.asarray(BRIER * missed + (1 - BRIER) * price * (said[:, np.newaxis] != classes))


def most_apart(
    one: NDArray[np.float32], other: NDArray[np.float32], costs: Thresholds
) -> NDArray[np.float64]:
    """How far the losses of two answers to each row can be apart, whatever its label, ``(n,)``."""
    apart = losses_by_class(one, costs) - losses_by_class(other, costs)
    return np.asarray(np.abs(apart).max(axis=1))


def excess_losses(
    probabilities: NDArray[np.float32], labels: Numbers, costs: Thresholds
) -> NDArray[np.float64]:
    """`row_losses` minus the loss that the model itself expects of each row, ``(n,)``, in [-1, 1].

    Their mean is 0 when the probabilities are calibrated, however hard the rows are.
    """
    expected = (_chances(probabilities) * losses_by_class(probabilities, costs)).sum(axis=1)
    return np.asarray(row_losses(probabilities, labels, costs) - expected)


def unnamed_shares(probabilities: NDArray[np.float32], labels: Numbers) -> NDArray[np.float64]:
    """Probability of each class less whether the label names it, ``(n, classes)``.

    The mean of each column is 0 when the probabilities are calibrated.
    """
    chances = _chances(probabilities)
    return chances - np.eye(chances.shape[1])[np.asarray(labels, dtype=np.int64)]


def _chances(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    chances = columns(torch.from_numpy(probabilities)).double().numpy()
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def cost_of(scores: Scores, costs: Thresholds) -> float:
    """Mean cost per row at the costs in force; 0 without rows."""
    if not scores.rows:
        return 0.0
    return (scores.fn * costs.miss_cost + scores.fp * costs.alarm_cost) / scores.rows
