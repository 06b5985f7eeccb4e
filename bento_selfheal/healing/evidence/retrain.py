"""The limit of healing: what it reaches, what it is worth, and when a retrain is needed."""

from __future__ import annotations

import numpy as np

from bento_selfheal.scoring.scores import batch_interval

BATCHES_KEPT = 2000
LATELY = 5


class Limit:
    """Says when healing stays far from what is asked, or is worth nothing any more.

    Args:
        asked: Accuracy asked for.
        batches: Labelled batches it judges by.

    Attributes:
        lifts: Lift of each labelled batch.
        reached: Accuracy of the better of challenger and champion on each labelled batch.
        retrain: Why a retrain is needed; empty while healing is enough.
    """

    def __init__(self, asked: float, batches: int) -> None:
        self._asked = asked
        self._batches = batches
        self.lifts: list[float] = []
        self.reached: list[float] = []
        self.retrain = ""

    def labelled(self, lift: float, reached: float) -> None:
        """Take one labelled batch."""
        self.lifts = [*self.lifts, lift][-BATCHES_KEPT:]
        self.reached = [*self.reached, reached][-BATCHES_KEPT:]

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
        self.retrain = ""
        if max(reached, lately) < self._asked:
            self.retrain = (
                f"the challenger's accuracy is {reached:.3f}, {self._asked:.3f} is asked for"
            )
        elif promoted and lift.high < 0:
            self.retrain = f"lift has faded to {lift}"
        return self.retrain
