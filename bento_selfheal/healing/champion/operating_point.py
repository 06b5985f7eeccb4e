"""The operating point: from which probability on a row is flagged, and what a mistake costs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import Numbers
from bento_selfheal.core.records import OperatingPoint, PointKind
from bento_selfheal.healing.journal import Journal
from bento_selfheal.scoring.probabilities import from_logits, logits
from bento_selfheal.scoring.recalibration import Recalibration
from bento_selfheal.scoring.scores import Scores

HISTORY = 3000
HALF_LIFE = 1200.0
FEWEST = 100
FIRST_ROWS, NEWEST_ROWS, LATEST = 50, 1000, 200
NEVER = 1.1


class ThresholdCalibration:
    """What champion and challenger said of the newest labelled rows before they trained on them.

    Of two classes only; from it follows the threshold that the costs or the capacity ask for.
    """

    def __init__(self) -> None:
        # The champion's answers, the challenger's and the labels, and what each row stands for.
        self._columns: tuple[deque[float], ...] = tuple(deque(maxlen=HISTORY) for _ in range(3))
        self._weights: deque[float] = deque(maxlen=HISTORY)
        self.unlabelled: deque[float] = deque(maxlen=NEWEST_ROWS)

    def __len__(self) -> int:
        return len(self._columns[0])

    def answered(self, probabilities: Numbers) -> None:
        """Take answers of the champion whose labels are not known."""
        self.unlabelled.extend(float(p) for p in probabilities)

    def labelled(
        self,
        champion: Numbers,
        challenger: Numbers,
        labels: Numbers,
        weights: Numbers | None = None,
    ) -> None:
        """Take newly labelled rows, each ``(n,)``; without weights each stands for itself."""
        for column, fresh in zip(self._columns, (champion, challenger, labels), strict=True):
            column.extend(fresh.tolist())
        self._weights.extend([1.0] * len(labels) if weights is None else weights.tolist())

    def of_challenger(self) -> ThresholdCalibration:
        """What it would be if the challenger served: its answers are the champion's."""
        out = ThresholdCalibration()
        _, challenger, labels = self._columns
        out._columns = challenger.copy(), challenger.copy(), labels.copy()
        out._weights = self._weights.copy()
        return out

    def rescored(self, champion: Numbers, challenger: Numbers, labels: Numbers) -> None:
        """Another model serves now: these rows, that it was not trained on, are all that counts."""
        for column in (*self._columns, self._weights, self.unlabelled):
            column.clear()
        self.labelled(champion, challenger, labels)

    def point(self, costs: Thresholds) -> OperatingPoint:
        """The operating point for the costs or the capacity in force."""
        if costs.capacity is not None:
            return self.share(costs.capacity / 1000, PointKind.CAPACITY)
        if costs.miss_cost == costs.alarm_cost or len(self) < FEWEST:
            return OperatingPoint(costs.bayes_threshold, _kind(costs))
        champion, _, known = self._columns
        answers, labels = (torch.tensor(c, dtype=torch.float64) for c in (champion, known))
        age = torch.arange(len(answers) - 1, -1, -1, dtype=torch.float64)
        stands_for = torch.tensor(self._weights, dtype=torch.float64)
        weights = torch.pow(0.5, age / HALF_LIFE) * stands_for
        said = Recalibration(answers, labels, weights)(answers)
        # Halfway in log odds: at the dear end of the scale a recalibration rests on few labels.
        risk = from_logits((logits(said) + logits(answers)) / 2)
        return OperatingPoint(_cheapest(answers, risk, weights, costs), PointKind.COSTS)

    def share(self, flagged: float, kind: PointKind) -> OperatingPoint:
        """The threshold at which this share of the newest answers is flagged."""
        # A model that has just been promoted has hardly answered yet.
        newest = [*list(self._columns[0])[-LATEST:], *self.unlabelled][-NEWEST_ROWS:]
        if len(newest) < FIRST_ROWS:
            return OperatingPoint()
        own = [*list(self._weights)[-LATEST:], *[1.0] * len(self.unlabelled)][-NEWEST_ROWS:]
        if set(own) == {1.0}:
            at = float(np.quantile(np.asarray(newest), 1 - flagged, method="higher"))
        else:
            at = float(np.quantile(newest, 1 - flagged, weights=own, method="inverted_cdf"))
        return OperatingPoint(float(np.nextafter(np.float32(at), np.float32(2))), kind)

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "rows": list(zip(*self._columns, strict=True)),
            "unlabelled": list(self.unlabelled),
            "weights": list(self._weights),
        }

    def restore(
        self,
        rows: Sequence[Sequence[float]],
        unlabelled: Sequence[float],
        weights: Sequence[float] | None = None,
    ) -> None:
        """Put back what a checkpoint kept; those of earlier releases know no weights."""
        self._weights.extend([1.0] * len(rows) if weights is None else weights)
        for column, kept in zip(self._columns, zip(*rows, strict=True), strict=False):
            column.extend(kept)  # without rows there are no columns
        self.unlabelled.extend(unlabelled)


class ThresholdPolicy:
    """The decision threshold in force, and what it follows.

    Args:
        binary: Whether there are two classes; of more, the likeliest is named and no threshold
            matters.
        journal: Where a threshold that follows something else is noted.

    Attributes:
        point: The operating point in force.
        calibration: The answers that it rests on.
    """

    def __init__(self, binary: bool, journal: Journal) -> None:
        self._binary = binary
        self._journal = journal
        self.point = OperatingPoint()
        self.calibration = ThresholdCalibration()

    def put(self, point: OperatingPoint, reason: str) -> None:
        """Put an operating point in force."""
        if point.kind is not self.point.kind:
            self._journal.note("operating_point", {**point.as_dict(), "reason": reason})
        self.point = point

    def score(
        self,
        answers: NDArray[np.float32],
        labels: NDArray[np.float32],
        weights: NDArray[np.float64] | None = None,
    ) -> Scores:
        """What answers are worth at the threshold in force, each for one or for its weight."""
        return Scores.of(answers, labels, self.point.threshold, weights)

    def answered(self, answers: NDArray[np.float32]) -> None:
        """Take answers of the champion whose labels are not known."""
        if self._binary:
            self.calibration.answered(answers)

    def labelled(
        self,
        champion: NDArray[np.float32],
        challenger: NDArray[np.float32],
        labels: NDArray[np.float32],
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take what both models say of newly labelled rows, before either trains on them."""
        if self._binary:
            self.calibration.labelled(champion, challenger, labels, weights)

    def hold_share(self, share: float) -> None:
        """While the world drifts and no label comes, hold the share of flags; nothing else."""
        point = self.calibration.share(share, PointKind.UNVERIFIED)
        self.put(point, "no label comes")

    def follow_labels(
        self,
        served: NDArray[np.float32],
        labels: NDArray[np.float32],
        costs: Thresholds,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Let the threshold follow costs and capacity; end what no label had verified."""
        if not self._binary:
            return
        if self.point.kind is PointKind.UNVERIFIED:
            corrected = self.score(served, labels, weights)
            plain = Scores.of(served, labels, weights=weights)
            if corrected.accuracy >= plain.accuracy:
                return
            self.put(
                OperatingPoint(),
                f"labels disagree: accuracy {corrected.accuracy:.3f} against {plain.accuracy:.3f}",
            )
        self.put(self.calibration.point(costs), "labels came")

    def point_to_promote(self, costs: Thresholds) -> OperatingPoint:
        """The point that comes into force with a challenger, by its own answers; none is
        unverified then."""
        answered = self.calibration.of_challenger()
        if len(answered) >= FIRST_ROWS:
            return answered.point(costs)
        return OperatingPoint() if self.point.kind is PointKind.UNVERIFIED else self.point

    def promoted(self, point: OperatingPoint) -> None:
        """The challenger serves now, with a point of `point_to_promote`."""
        self.calibration = self.calibration.of_challenger()
        self.put(point, "a healed model serves")

    def point_of_other(
        self,
        champion: NDArray[np.float32],
        challenger: NDArray[np.float32],
        labels: NDArray[np.float32],
        costs: Thresholds,
        promoted_with: OperatingPoint | None = None,
    ) -> OperatingPoint:
        """The point of another model than the challenger, in place of that of the one before.

        Args:
            champion: What that model says of labelled rows that it was not trained on.
            challenger: What the challenger says of them.
            labels: Their labels.
            costs: What mistakes cost.
            promoted_with: The point that it was once promoted with; it counts where there are too
                few rows, and the costs alone where that is not known either.
        """
        if not self._binary:
            return OperatingPoint()
        self.calibration.rescored(champion, challenger, labels)
        known = promoted_with if len(labels) < FEWEST else None
        if known is not None and known.kind is not PointKind.UNVERIFIED:
            return known
        return self.calibration.point(costs)

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        point = {"threshold": self.point.threshold, "kind": self.point.kind}
        return {"point": point, "calibration": self.calibration.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        point = state["point"]
        self.point = OperatingPoint(point["threshold"], PointKind(point["kind"]))
        self.calibration.restore(**state["calibration"])


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
