"""How much the label of a row would tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.scoring.losses import most_apart

MEMORY = 30.0
"""Rows over which the mean is taken: disputes grow quickly after a change."""
ALIKE = 0.01
"""What a row counts of which both say the same."""
TELLING = 0.4
"""Of a row that would tell less, most of its chance is the part that goes to all rows."""
DISAGREE, BY_CHANCE = "the challenger disagrees", "drawn by chance"


@dataclass
class Worth:
    """What labels would tell, with a mean of 1 over the newest rows.

    A label tells by how much one of two answers is better than the other: at most by the difference
    of their losses, for the class for which it is largest. What both say of a row that they answer
    alike, no label can hold against either.
    """

    mean: float = 0.0
    seen: float = 0.0

    def of(
        self, served: NDArray[np.float32], challenger: NDArray[np.float32], costs: Thresholds
    ) -> tuple[NDArray[np.float64], float, list[str]]:
        """The worth of each row, ``(n,)``, that of a row of which its label could tell all, and
        what speaks for each, in words.

        Args:
            served: What was answered, ``(n,)`` or ``(n, classes)``.
            challenger: What the challenger says, in the same shape.
            costs: What mistakes cost.
        """
        found = most_apart(served, challenger, costs) + ALIKE
        # Of the rows before: what a row counts must not depend on the others of its request.
        mean = self.mean if self.seen else 1.0
        even = found / mean if self.seen else np.ones(len(found))
        for value in found.tolist():
            self.seen = min(self.seen + 1, MEMORY)
            self.mean += (value - self.mean) / self.seen
        words = np.where(even < TELLING, BY_CHANCE, DISAGREE)
        return even, (1 + ALIKE) / mean, words.tolist()
