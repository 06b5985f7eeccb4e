"""When healing is not enough: what it reaches, what it is worth, and when to retrain."""

from __future__ import annotations

from typing import Any

import numpy as np

from bento_selfheal.scoring.scores import batch_interval

BATCHES_KEPT = 2000
LATELY = 5


class RetrainAdvice:
    """Says when healing stays far from what is asked, or is worth nothing any more.

    Args:
        target_accuracy: Accuracy below which healing is not enough.
        batches: Labelled batches it judges by.

    Attributes:
        lifts: Lift of each labelled batch.
        reached: Accuracy of the better of challenger and champion on each labelled batch.
        new_class: Why classes that the model lacks need one; empty while there are few.
    """

    def __init__(self, target_accuracy: float, batches: int) -> None:
        self._target_accuracy = target_accuracy
        self._batches = batches
        self.lifts: list[float] = []
        self.reached: list[float] = []
        self.new_class = ""
        self._told = False
        self._fallen = ""

    @property
    def retrain(self) -> str:
        """Why a retrain is needed; empty while healing is enough."""
        return self.new_class or self._fallen

    def labelled(self, lift: float, reached: float) -> None:
        """Take one labelled batch."""
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
        reached, lately = float(np.mean(newest)), float(np.mean(newest[-LATELY:]))
        lift = batch_interval(lifts)
        self._fallen = ""
        if max(reached, lately) < self._target_accuracy:
            target = self._target_accuracy
            self._fallen = f"the challenger's accuracy is {reached:.3f}, {target:.3f} is asked for"
        elif promoted and lift.high < 0:
            self._fallen = f"lift has faded to {lift}"
        return self.retrain

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "lifts": self.lifts, "reached": self.reached, "retrain": self._fallen,
            "new_class": self.new_class, "told": self._told,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.lifts, self.reached = state["lifts"], state["reached"]
        self._fallen = state["retrain"]
        self.new_class = state.get("new_class", "")  # older releases knew none
        self._told = state.get("told", bool(self._fallen))
