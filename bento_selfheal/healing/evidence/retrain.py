"""When healing is not enough: what it reaches, what it is worth, and when to retrain."""

from __future__ import annotations

from typing import Any

import numpy as np

from bento_selfheal.scoring.scores import Interval, batch_interval

BATCHES_KEPT = 2000
LATELY = 5
LABELS = 25.0
"""Labels of a batch of before rows stood for others, about."""


class RetrainAdvice:
    """Says when healing stays far from what is asked, or is worth nothing any more.

    Args:
        target_accuracy: Accuracy below which healing is not enough.
        batches: Labelled batches it judges by.

    Attributes:
        lifts: Lift of each labelled batch.
        reached: Accuracy of the better of challenger and champion on each labelled batch.
        new_class: Why classes that the model lacks need one; empty while there are few.
        rows: Rows that the labels of each batch stand for; None while each stands for its own.
    """

    def __init__(self, target_accuracy: float, batches: int) -> None:
        self._target_accuracy = target_accuracy
        self._batches = batches
        self.lifts: list[float] = []
        self.reached: list[float] = []
        self.rows: list[float] | None = None
        self.new_class = ""
        self._told = False
        self._fallen = ""

    @property
    def retrain(self) -> str:
        """Why a retrain is needed; empty while healing is enough."""
        return self.new_class or self._fallen

    def labelled(self, lift: float, reached: float, rows: float | None = None) -> None:
        """Take one labelled batch; ``rows`` is what its labels stand for, where that is not their
        number."""
        if rows is not None or self.rows is not None:
            before = self.rows if self.rows is not None else [LABELS] * len(self.lifts)
            self.rows = [*before, LABELS if rows is None else rows][-BATCHES_KEPT:]
        self.lifts = [*self.lifts, lift][-BATCHES_KEPT:]
        self.reached = [*self.reached, reached][-BATCHES_KEPT:]

    def begins(self, *, promoted: bool) -> str:
        """Judge the newest batches as `update` does; why to retrain, told once, or ""."""
        why, told = self.update(promoted=promoted), self._told
        self._told = bool(why)
        return "" if told else why

    def update(self, *, promoted: bool) -> str:
        """Judge the newest batches; why to retrain, or "".

        Args:
            promoted: Whether anything healed was ever promoted; without, no lift can fade.
        """
        newest, lifts = self.reached[-self._batches :], self.lifts[-self._batches :]
        if len(newest) < self._batches:
            return self.retrain
        rows = None if self.rows is None else self.rows[-self._batches :]
        reached, lately = _mean(newest, rows), _mean(newest[-LATELY:], rows and rows[-LATELY:])
        lift = batch_interval(lifts, rows)
        self._fallen = ""
        if max(reached, lately) < self._target_accuracy:
            target = self._target_accuracy
            self._fallen = f"the challenger's accuracy is {reached:.3f}, {target:.3f} is asked for"
        elif promoted and lift.high < 0:
            self._fallen = f"lift has faded to {lift}"
        return self.retrain

    @property
    def lift(self) -> Interval:
        """Mean lift of all batches that are kept."""
        return batch_interval(self.lifts, self.rows)

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        kept = {} if self.rows is None else {"rows": self.rows}
        return {
            "lifts": self.lifts, "reached": self.reached, "retrain": self._fallen,
            "new_class": self.new_class, "told": self._told, **kept,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.lifts, self.reached = state["lifts"], state["reached"]
        self._fallen, self.rows = state["retrain"], state.get("rows")
        self.new_class = state.get("new_class", "")  # older releases knew none
        self._told = state.get("told", bool(self._fallen))


def _mean(values: list[float], rows: list[float] | None) -> float:
    """The mean, of each for one or for its rows."""
    if rows is None or not sum(rows):
        return float(np.mean(values))
    return float(np.average(values, weights=rows))
