"""How well a model ranks rows: AUC and average precision, each row for its weight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import Numbers
from bento_selfheal.scoring.auc import FEWEST


def ranking(
    probabilities: Numbers, labels: NDArray[np.generic], weights: NDArray[np.float64]
) -> tuple[float, float] | None:
    """AUC and average precision; of many classes their means over each against the others.

    Both are as scikit-learn's `roc_auc_score` and `average_precision_score` give them.

    Args:
        probabilities: ``(n,)`` of two classes, ``(n, classes)`` of many.
        labels: Indices of classes, ``(n,)``.
        weights: Rows that each stands for, ``(n,)``.

    Returns:
        None where no class has 10 rows beside 10 of others.

    >>> truth = np.arange(40) % 2
    >>> ranking(truth * 1.0, truth, np.ones(40))
    (1.0, 1.0)
    """
    p = np.asarray(probabilities, dtype=np.float64)
    of_class = [(1, p)] if p.ndim == 1 else list(enumerate(p.T))
    found = []
    for which, scores in of_class:
        own = np.asarray(labels) == which
        if min(own.sum(), (~own).sum()) >= FEWEST and min(weights[own].sum(), weights[~own].sum()):
            found.append(_of_one(scores, own, weights))
    if not found:
        return None
    auc, precision = np.mean(found, axis=0)
    return float(auc), float(precision)


def _of_one(
    scores: NDArray[np.float64], own: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Of one class against the others; equal scores are one step of the curve."""
    order = np.argsort(-scores, kind="stable")
    right = (weights * own)[order].cumsum()
    all_flagged = weights[order].cumsum()
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    right, wrong = right[ends], all_flagged[ends] - right[ends]
    gained, spent = np.diff(right, prepend=0.0), np.diff(wrong, prepend=0.0)
    area = (spent * (right - gained / 2)).sum() / (right[-1] * wrong[-1])
    flagged = np.maximum(right + wrong, np.finfo(np.float64).tiny)
    return float(area), float((gained * right / flagged).sum() / right[-1])
