"""How much better one model ranks the classes than another, on the same rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import Numbers

FEWEST = 10
"""Rows of a class, and of the others, without which its ranking says nothing."""


def auc_gap(
    ours: Numbers, theirs: Numbers, labels: Numbers, weights: NDArray[np.float64] | None = None
) -> tuple[float, float] | None:
    """Our AUC less theirs, and its standard error (DeLong, DeLong and Clarke-Pearson 1988).

    Of many classes it is the mean over each class against the others.

    Args:
        ours: Probabilities, ``(n,)`` of two classes, ``(n, classes)`` of many.
        theirs: Those of another model for the same rows.
        labels: Indices of classes, ``(n,)``.
        weights: Rows that each stands for, ``(n,)``; for its own alone where there are none.

    Returns:
        None where no class has 10 rows beside 10 of others.

    >>> truth = np.arange(200) % 2
    >>> gap, error = auc_gap(truth * 1.0, np.full(200, 0.5), truth)
    >>> round(gap, 2), round(error, 2)
    (0.5, 0.0)
    """
    pairs = [(1, ours, theirs)]
    if ours.ndim == 2:
        pairs = [(c, ours[:, c], theirs[:, c]) for c in range(ours.shape[1])]
    gaps, influence = [], np.zeros(len(labels))
    for c, a, b in pairs:
        own = np.asarray(labels) == c
        rows, others = int(own.sum()), int((~own).sum())
        if min(rows, others) < FEWEST:
            continue
        if weights is None:
            ahead = _placed(a, own) - _placed(b, own)
            gaps.append(float(ahead[own].mean()))
            influence += (ahead - gaps[-1]) / np.where(own, rows, others)
        elif min(weights[own].sum(), weights[~own].sum()) > 0:
            ahead = _weighted(a, own, weights) - _weighted(b, own, weights)
            gaps.append(float(np.average(ahead[own], weights=weights[own])))
            whole = np.where(own, weights[own].sum(), weights[~own].sum())
            influence += weights * (ahead - gaps[-1]) / whole
    if not gaps:
        return None
    return float(np.mean(gaps)), math.sqrt(float(np.square(influence / len(gaps)).sum()))


def _weighted(
    scores: Numbers, own: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`_placed`, each row for its weight."""
    out = np.empty(len(scores))
    for group in (own, ~own):
        order = np.argsort(scores[~group])
        others = scores[~group][order]
        upto = np.concatenate([[0.0], weights[~group][order].cumsum()])
        below = (
            upto[np.searchsorted(others, scores[group])]
            + upto[np.searchsorted(others, scores[group], side="right")]
        )
        share = below / (2 * upto[-1])
        out[group] = share if group is own else 1 - share
    return out


def _placed(scores: Numbers, own: NDArray[np.bool_]) -> NDArray[np.float64]:
    """For each row, the share of the other group that is on the right side of it, ``(n,)``.

    Its mean over either group is the AUC; a tie counts as half.
    """
    out = np.empty(len(scores))
    for group in (own, ~own):
        others = np.sort(scores[~group])
        below = np.searchsorted(others, scores[group]) + np.searchsorted(
            others, scores[group], side="right"
        )
        share = below / (2 * len(others))
        out[group] = share if group is own else 1 - share
    return out
