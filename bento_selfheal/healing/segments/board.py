"""What was answered in each segment, and what it was worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.segments.lift import Lift


@dataclass
class Figures:
    """Of one segment."""

    rows: int = 0
    """Rows that were answered."""
    labels: int = 0
    weight: float = 0.0
    """Rows that the labels stand for."""
    served: float = 0.0
    frozen: float = 0.0
    """Of these, the ones that were decided right: as served, and by the packaged model."""
    lift: Lift = field(default_factory=Lift)

    def shown(self) -> dict[str, Any]:
        """As JSON values; without labels there is no accuracy."""
        lift, known = self.lift.interval(), self.weight > 0
        return {
            "rows": self.rows,
            "labels": self.labels,
            "served": self.served / self.weight if known else None,
            "frozen": self.frozen / self.weight if known else None,
            "lift": {"mean": lift.mean, "low": lift.low, "high": lift.high} if known else None,
        }


class Board:
    """Keeps the figures of each segment.

    Args:
        segments: How many there are.
    """

    def __init__(self, segments: int) -> None:
        self.each = [Figures() for _ in range(segments)]

    def answered(self, members: NDArray[np.bool_]) -> None:
        """Count rows that were answered, by their segments ``(n, segments)``."""
        for figures, count in zip(self.each, members.sum(axis=0).tolist(), strict=True):
            figures.rows += count

    def labelled(
        self,
        members: NDArray[np.bool_],
        served: NDArray[np.bool_],
        frozen: NDArray[np.bool_],
        weights: NDArray[np.float64] | None,
    ) -> None:
        """Take labelled rows.

        Args:
            members: Their segments, ``(n, segments)``.
            served: Which were decided right as served, ``(n,)``.
            frozen: Which the packaged model decides right, ``(n,)``.
            weights: Rows that each label stands for, ``(n,)``; its own alone where not given.
        """
        own = np.ones(len(members)) if weights is None else weights
        for row, place in np.argwhere(members).tolist():
            figures, weight = self.each[place], float(own[row])
            figures.labels += 1
            if weight <= 0:
                continue
            figures.weight += weight
            figures.served += weight * bool(served[row])
            figures.frozen += weight * bool(frozen[row])
            figures.lift.add(float(served[row]) - float(frozen[row]), weight)

    def state(self) -> list[dict[str, Any]]:
        """As JSON values, for the checkpoint."""
        return [asdict(figures) for figures in self.each]

    def restore(self, place: int, state: dict[str, Any]) -> None:
        """Put back what `state` gave of one segment."""
        self.each[place] = Figures(**{**state, "lift": Lift(**state["lift"])})
