"""How much the label of a row would tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.class_probabilities import columns

MEMORY = 500.0
"""Rows over which the mean is taken."""
DOUBTS = 0.05
"""What being unsure of all counts, beside 1 for disagreeing on all."""
TELLING = 0.4
"""Of a row that would tell less, most of its chance is the part that goes to all rows."""
UNSURE, DISAGREE, BY_CHANCE = "the model is unsure", "the challenger disagrees", "drawn by chance"


@dataclass
class Worth:
    """What labels would tell, with a mean of 1 over the newest rows.

    A label tells most where the challenger disagrees with what was answered: it decides which of
    the two is better, by up to that difference, and shows where the world has moved. Doubt counts
    little beside it: much of it is noise, which no label takes away.
    """

    mean: float = 0.0
    seen: float = 0.0

    def of(
        self, served: NDArray[np.float32], challenger: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], list[str]]:
        """The worth of each row, ``(n,)``, and what speaks for it, in words."""
        own, other = _columns(challenger), _columns(served)
        best = np.sort(own, axis=1)
        doubts = 1 - (best[:, -1] - best[:, -2]).clip(0, 1)
        apart = np.abs(own - other).sum(axis=1) / 2
        found = apart + DOUBTS * doubts
        for value in found.tolist():
            self.seen = min(self.seen + 1, MEMORY)
            self.mean += (value - self.mean) / self.seen
        even = found / max(self.mean, 1e-9)
        main = np.where(apart > DOUBTS * doubts, DISAGREE, UNSURE)
        return even, np.where(even < TELLING, BY_CHANCE, main).tolist()


def _columns(answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities of each class, ``(n, classes)``."""
    return columns(torch.from_numpy(np.ascontiguousarray(answers))).double().numpy()
