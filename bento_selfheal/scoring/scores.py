"""How good a classifier's answers were, once their labels are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.decision import THRESHOLD, Numbers, decide_classes
from bento_selfheal.scoring.probabilities import cross_entropy, targets

TINY = 1e-12


@dataclass(frozen=True)
class Scores:
    """The four counts of a binary decision, and the figures computed from them; sums of weights
    where rows stand for others."""

    tp: float
    tn: float
    fp: float
    fn: float

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.float32],
        labels: NDArray[np.generic],
        threshold: float | Numbers = THRESHOLD,
        weights: NDArray[np.float64] | None = None,
    ) -> Scores:
        """Count decisions against labels, indices of classes, ``(n,)``.

        The threshold is one for all rows, or one for each, ``(n,)``. Each row counts for one, or
        for its weight, ``(n,)``.

        Of many classes the first is the negative one: an answer that names it counts as ``tn`` or
        ``fn``, any other as ``tp`` or ``fp``.
        """
        said, true = decide_classes(np.asarray(probabilities), threshold), np.asarray(labels)
        kinds = 2 * (said > 0) + (said == true)
        fn, tn, fp, tp = np.bincount(kinds, weights, minlength=4).tolist()
        return cls(tp=tp, tn=tn, fp=fp, fn=fn)

    def __add__(self, other: Scores) -> Scores:
        return Scores(
            self.tp + other.tp, self.tn + other.tn, self.fp + other.fp, self.fn + other.fn
        )

    def __sub__(self, other: Scores) -> Scores:
        return Scores(
            self.tp - other.tp, self.tn - other.tn, self.fp - other.fp, self.fn - other.fn
        )

    @property
    def rows(self) -> float:
        """How many rows were counted."""
        return self.tp + self.tn + self.fp + self.fn

    @property
    def accuracy(self) -> float:
        """Share of right decisions; 0 without rows."""
        return (self.tp + self.tn) / self.rows if self.rows else 0.0

    @property
    def precision(self) -> float:
        """Share of right ones among positive decisions; 0 without any."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """Share of positive rows that were found; 0 without any."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def as_dict(self) -> dict[str, float]:
        """Figures and counts by name."""
        return {
            "accuracy": self.accuracy,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            **asdict(self),
        }


NOTHING = Scores(0, 0, 0, 0)


def telling_figures(classes: int) -> tuple[str, ...]:
    """Which figures of `Scores` tell a good model from a bad one, the most telling first.

    F1 is that of one class. Of many classes it says how well the first is told from all others.
    """
    return ("f1", "accuracy") if classes == 2 else ("accuracy",)


def recalls_of(decided: NDArray[np.generic], labels: NDArray[np.generic]) -> dict[int, float]:
    """By class, an index, the share of its rows that were decided right; of those that have rows.

    >>> recalls_of(np.array([0, 2, 2, 0]), np.array([0, 2, 0, 0]))
    {0: 0.6666666666666666, 2: 1.0}
    """
    return {int(i): float((decided[labels == i] == i).mean()) for i in np.unique(labels)}


def majority_accuracy(counts: Sequence[float]) -> float:
    """Accuracy of always answering the commonest class, which is known only afterwards.

    Args:
        counts: How many labels each class has, in any order.

    >>> majority_accuracy([85, 15])
    0.85
    """
    total = sum(counts)
    return max(counts) / total if total else 0.0


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def batch_interval(values: Sequence[float], weights: Sequence[float] | None = None) -> Interval:
    """Mean of per-batch values with a 95 % interval from non-overlapping batch means.

    Each batch counts for one, or for its weight: the rows that its labels stand for.

    Neighbouring batches of a stream resemble each other, so they are first joined into at
    most 20 blocks, whose means are nearly independent (batch means, Law & Kelton). The
    quantile is Student's. Fewer than 2 batches give the widest interval that lift can have.
    """
    each = np.asarray(values, dtype=np.float64)
    if len(each) < 2:
        return Interval(float(each.sum()), -1.0, 1.0)
    count = min(20, len(each))
    sizes = np.full(count, len(each) // count)
    sizes[: len(each) % count] += 1
    starts = np.cumsum(sizes) - sizes
    if weights is None:
        blocks, mean = np.add.reduceat(each, starts) / sizes, float(each.mean())
    else:
        counts = np.asarray(weights, dtype=np.float64)
        within = np.maximum(np.add.reduceat(counts, starts), TINY)
        mean = float(each @ counts / max(counts.sum(), TINY))
        # Blocks of few rows say less: each counts as far as its rows move the mean.
        shares = within / within.sum() * count
        blocks = mean + shares * (np.add.reduceat(each * counts, starts) / within - mean)
    half = _student_975(count - 1) * float(blocks.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def _student_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, from its table."""
    table = (
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
        2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    )  # fmt: skip
    return table[min(freedom, len(table)) - 1]


def log_loss_gain(
    champion: NDArray[np.floating[Any]],
    shadow: NDArray[np.floating[Any]],
    labels: NDArray[np.floating[Any]],
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Sum of the shadow's log loss less the champion's over labelled rows, in nats; each row counts
    for one, or for its weight, ``(n,)``."""
    truth = torch.from_numpy(np.asarray(labels, dtype=np.float32))

    def loss(p: NDArray[np.floating[Any]]) -> float:
        each = torch.from_numpy(np.asarray(p, dtype=np.float32))
        if weights is not None:
            rows = ((each[i : i + 1], truth[i : i + 1]) for i in range(len(each)))
            lost = [float(cross_entropy(q, targets(y, q))) for q, y in rows]
            return float(np.dot(lost, weights))
        return float(cross_entropy(each, targets(truth, each))) * len(truth)

    return loss(shadow) - loss(champion)
