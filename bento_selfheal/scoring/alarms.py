"""What a number of alarms catches: the rows that a model ranks highest, for people to check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import Numbers

BATCH = 100
"""Rows among which alarms are shared out: nobody can wait for the whole stream to rank it."""


@dataclass(frozen=True)
class Alarms:
    """Alarms that were raised, how many were right, and how many there were to raise."""

    raised: int = 0
    right: int = 0
    due: int = 0

    def __add__(self, other: Alarms) -> Alarms:
        return Alarms(self.raised + other.raised, self.right + other.right, self.due + other.due)

    @property
    def recall(self) -> float:
        """Share of the rows that should be found that were; 0 without any."""
        return self.right / self.due if self.due else 0.0

    @property
    def precision(self) -> float:
        """Share of right alarms; 0 without any."""
        return self.right / self.raised if self.raised else 0.0


def raise_alarms(
    probabilities: Numbers, labels: NDArray[np.generic], shares: Sequence[float]
) -> Alarms:
    """Flag the same share of rows whatever the model: in each batch, the likeliest ones.

    Of many classes each one is looked for in turn, as if it were the only one, and all counts are
    sums over the classes. Among equal probabilities, earlier rows come first.

    Args:
        probabilities: ``(n,)`` of two classes, ``(n, classes)`` of many, in order of time.
        labels: Indices of classes, ``(n,)``.
        shares: Alarms per row, in [0, 1]: one number of two classes, one for each class of many.

    >>> told = np.asarray([0.9, 0.2, 0.8, 0.1], dtype=np.float32)
    >>> raise_alarms(told, np.asarray([1, 0, 0, 1]), [0.5])
    Alarms(raised=2, right=1, due=2)
    """
    p, truth = np.asarray(probabilities), np.asarray(labels).astype(np.int64)
    looked_for = [(1, p)] if p.ndim == 1 else list(enumerate(p.T))
    found = Alarms()
    for (which, scores), share in zip(looked_for, shares, strict=True):
        for start in range(0, len(truth), BATCH):
            stop = min(start + BATCH, len(truth))
            # Rounded over the whole stream: a share of 0.4 rows a batch is two in five batches.
            most = round(share * stop) - round(share * start)
            found += _highest(scores[start:stop], truth[start:stop] == which, most)
    return found


def _highest(scores: Numbers, right: NDArray[np.bool_], most: int) -> Alarms:
    flagged = np.argsort(-scores, kind="stable")[:most]
    return Alarms(len(flagged), int(right[flagged].sum()), int(right.sum()))
