"""Log odds of what estimators say, which is scores or probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError

LEAST = 1e-7
"""Least probability that log odds are taken of: next to 1, float32 knows no finer steps."""
CLOSE = 1e-3
"""How far the sum of a row's probabilities may be from 1."""


def odds_of_scores(scores: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log odds of log probabilities up to a constant, ``(n, classes)``, or of the second class's
    log odds, ``(n,)``."""
    if scores.ndim == 1:
        out = scores[:, None]
    elif scores.shape[1] == 2:
        out = scores[:, 1:] - scores[:, :1]
    else:
        out = scores - scores.mean(axis=1, keepdims=True)
    return np.ascontiguousarray(out, dtype=np.float32)


def odds_of_probabilities(said: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log odds of probabilities, ``(n, classes)``, or of the second class's, ``(n,)`` or
    ``(n, 1)``.

    Raises:
        PackageError: They are none.
    """
    each = np.asarray(said, dtype=np.float64)
    if each.ndim == 1 or each.shape[1] == 1:
        second = each.reshape(-1)
        each = np.stack([1 - second, second], axis=1)
    if (
        not ((each >= -CLOSE) & (each <= 1 + CLOSE)).all()
        or (np.abs(each.sum(axis=1) - 1) > CLOSE).any()
    ):
        raise PackageError(
            f"estimator: it says {said[0].tolist()} of the first row, which are no probabilities"
        )
    return odds_of_scores(np.log(each.clip(LEAST, 1)))
