"""The operating point: from which probability on a row is flagged, and what a mistake costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .answers import brier, columns, from_logits, logits
from .config import Thresholds
from .decision import Numbers, decided
from .metrics import Scores
from .recalibration import Recalibration

HISTORY = 3000
HALF_LIFE = 1200.0
FEWEST = 100
FIRST_ROWS, NEWEST_ROWS, LATEST = 50, 1000, 200
NEVER = 1.1
BRIER = 0.75
"""Share of the Brier score in the loss: it shows a gain soonest; decisions are what costs."""


class PointKind(StrEnum):
    """What the threshold follows."""

    DEFAULT = "default"  # 0.5, as packaged
    COSTS = "costs"  # the costs of a miss and of a false alarm, on recalibrated probabilities
    CAPACITY = "capacity"  # so many flags in 1,000 rows
    UNVERIFIED = "unverified"  # the calibrated share of flags; no label has come to say so


@dataclass(frozen=True)
class OperatingPoint:
    """The decision threshold of two classes, on the probability as the model gives it."""

    threshold: float = 0.5
    kind: PointKind = PointKind.DEFAULT

    def as_dict(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "kind": self.kind.value,
            "verified": self.kind is not PointKind.UNVERIFIED,
        }


def row_losses(
    probabilities: Numbers, labels: Numbers, costs: Thresholds, threshold: float | None = None
) -> NDArray[np.float64]:
    """What the gate compares: Brier score, and to a quarter the cost of the decision, ``(n,)``.

    All in [0, 1]: the dearer mistake costs 1. Where nothing else is said the decision is taken at
    the Bayes threshold of the costs.
    """
    at = costs.bayes_threshold if threshold is None else threshold
    said, true = decided(probabilities, at), np.asarray(labels)
    dear = max(costs.miss_cost, costs.alarm_cost)
    price = np.where(true > 0, costs.miss_cost, costs.alarm_cost) / dear
    return np.asarray(BRIER * brier(probabilities, labels) + (1 - BRIER) * price * (said != true))


def excess_losses(
    probabilities: NDArray[np.float32], labels: Numbers, costs: Thresholds
) -> NDArray[np.float64]:
    """`row_losses` less what the model itself expects of each row, ``(n,)``, in [-1, 1].

    The mean is 0 where the probabilities are true, however hard the rows are.
    """
    chances = columns(torch.from_numpy(probabilities)).double().numpy()
    chances = chances / chances.sum(axis=1, keepdims=True)
    expected = sum(
        chances[:, c] * row_losses(probabilities, np.full(len(probabilities), c), costs)
        for c in range(chances.shape[1])
    )
    return np.asarray(row_losses(probabilities, labels, costs) - expected)


def cost_of(scores: Scores, costs: Thresholds) -> float:
    """Mean cost a row at the costs in force; 0 without rows."""
    if not scores.rows:
        return 0.0
    return (scores.fn * costs.miss_cost + scores.fp * costs.alarm_cost) / scores.rows


class Calibration:
    """What champion and challenger said of the newest labelled rows before they trained on them.

    Of two classes only; from it follows the threshold that the costs or the capacity ask for.
    """

    def __init__(self) -> None:
        self.rows: deque[tuple[float, float, float]] = deque(maxlen=HISTORY)
        self.unlabelled: deque[float] = deque(maxlen=NEWEST_ROWS)

    def answered(self, probabilities: Numbers) -> None:
        """Take answers of the champion whose labels are not known."""
        self.unlabelled.extend(float(p) for p in probabilities)

    def labelled(self, champion: Numbers, challenger: Numbers, labels: Numbers) -> None:
        """Take newly labelled rows, each ``(n,)``."""
        self.rows.extend(zip(champion.tolist(), challenger.tolist(), labels.tolist(), strict=True))

    def promoted(self) -> None:
        """The challenger serves now: its answers are the champion's."""
        self.rows = deque(((q, q, y) for _, q, y in self.rows), maxlen=HISTORY)
        self.unlabelled.clear()

    def point(self, costs: Thresholds) -> OperatingPoint:
        """The operating point for the costs or the capacity in force."""
        if costs.capacity is not None:
            return self.share(costs.capacity / 1000, PointKind.CAPACITY)
        if costs.miss_cost == costs.alarm_cost or len(self.rows) < FEWEST:
            return OperatingPoint(costs.bayes_threshold, _kind(costs))
        table = torch.tensor(list(self.rows), dtype=torch.float64)
        age = torch.arange(len(table) - 1, -1, -1, dtype=torch.float64)
        weights = torch.pow(0.5, age / HALF_LIFE)
        answers = table[:, 0]
        said = Recalibration(answers, table[:, 2], weights)(answers)
        # Halfway in log odds: at the dear end of the scale a recalibration rests on few labels.
        risk = from_logits((logits(said) + logits(answers)) / 2)
        return OperatingPoint(_cheapest(answers, risk, weights, costs), PointKind.COSTS)

    def share(self, flagged: float, kind: PointKind) -> OperatingPoint:
        """The threshold at which this share of the newest answers is flagged."""
        newest = self.unlabelled or [p for p, _, _ in list(self.rows)[-LATEST:]]
        if len(newest) < FIRST_ROWS:
            return OperatingPoint()
        at = float(np.quantile(np.asarray(newest), 1 - flagged, method="higher"))
        return OperatingPoint(float(np.nextafter(np.float32(at), np.float32(2))), kind)

    def restore(self, rows: Sequence[Sequence[float]], unlabelled: Sequence[float]) -> None:
        """Put back what a checkpoint kept."""
        self.rows.extend((p, q, y) for p, q, y in rows)
        self.unlabelled.extend(unlabelled)


def _cheapest(answers: Tensor, risk: Tensor, weights: Tensor, costs: Thresholds) -> float:
    """The threshold of least expected cost when these answers carry these risks."""
    order = torch.argsort(answers)
    missed = (weights * risk * costs.miss_cost)[order].cumsum(dim=0)
    alarms = (weights * (1 - risk) * costs.alarm_cost)[order]
    # Place i: the i lowest answers are let go, all others are flagged.
    cost = torch.cat([torch.zeros(1), missed]) + torch.cat([alarms, torch.zeros(1)]).flip(0).cumsum(
        dim=0
    ).flip(0)
    place = int(cost.argmin())
    return float(answers[order[place]]) if place < len(order) else NEVER


def _kind(costs: Thresholds) -> PointKind:
    return PointKind.DEFAULT if costs.miss_cost == costs.alarm_cost else PointKind.COSTS
