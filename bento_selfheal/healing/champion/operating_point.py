"""The operating point: from which probability on a row is flagged, and what a mistake costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import Numbers
from bento_selfheal.core.records import OperatingPoint, PointKind
from bento_selfheal.scoring.probabilities import from_logits, logits
from bento_selfheal.scoring.recalibration import Recalibration

HISTORY = 3000
HALF_LIFE = 1200.0
FEWEST = 100
FIRST_ROWS, NEWEST_ROWS, LATEST = 50, 1000, 200
NEVER = 1.1


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

    def rescored(self, champion: Numbers, challenger: Numbers, labels: Numbers) -> None:
        """Another model serves now: these rows, that it was not trained on, are all that counts."""
        self.rows.clear()
        self.unlabelled.clear()
        self.labelled(champion, challenger, labels)

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
