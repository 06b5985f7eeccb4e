"""Labelled rows as training wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_RARITY = 100.0


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows in the order in which their labels came, oldest first."""

    features: NDArray[np.float32]
    """``(n, features)``"""
    labels: NDArray[np.float32]
    """``(n,)``, indices of classes"""
    hidden: Tensor | None = None
    """``(n, hidden)``, the frozen backbone's output where it is known already"""
    weights: NDArray[np.float32] | None = None
    """``(n,)``, rows of its class that each stands for; each for itself where there is none"""
    ages: NDArray[np.int64] | None = None
    """``(n,)``, labels that came after each; where there is none, no row is missing"""
    asked: NDArray[np.int64] | None = None
    """``(n,)``, place of each prediction in the log; -1 where there was none"""
    frozen: Tensor | None = None
    """``(n,)`` or ``(n, classes)``, what the frozen model says where it is known already"""
    repeats: NDArray[np.bool_] | None = None
    """``(n,)``, whether the same features came with an earlier label; none did where there is
    none"""

    def __len__(self) -> int:
        return len(self.labels)

    def tail(self, n: int) -> LabelledRows:
        """The newest ``n`` rows."""
        return self.at(slice(max(len(self) - n, 0), None))

    def head(self, n: int) -> LabelledRows:
        """The oldest ``n`` rows."""
        return self.at(slice(n))

    def at(self, places: NDArray[np.int64] | slice) -> LabelledRows:
        """The rows at these places."""
        return LabelledRows(
            self.features[places],
            self.labels[places],
            None if self.hidden is None else self.hidden[places],
            None if self.weights is None else self.weights[places],
            None if self.ages is None else self.ages[places],
            None if self.asked is None else self.asked[places],
            None if self.frozen is None else self.frozen[places],
            None if self.repeats is None else self.repeats[places],
        )

    def repeated(self) -> LabelledRows:
        """Each row as often as it stands for rows of its class, without weights."""
        if self.weights is None:
            return self
        times = self.weights.round().astype(np.int64)
        return LabelledRows(self.features.repeat(times, axis=0), self.labels.repeat(times))

    def since(self, age: float) -> LabelledRows:
        """The rows after which fewer labels came than this."""
        return self.tail(int((self.age() < age).sum()))

    def age(self) -> NDArray[np.int64]:
        """Labels that came after each row, ``(n,)``."""
        return np.arange(len(self) - 1, -1, -1) if self.ages is None else self.ages

    def recency(self, half_life: float) -> Tensor:
        """What each stands for, halved every ``half_life`` labels, ``(n,)``."""
        fresh = torch.pow(0.5, torch.from_numpy(self.age()).double() / half_life)
        return fresh if self.weights is None else fresh * torch.from_numpy(self.weights)

    @property
    def rarest(self) -> float:
        """Share of the rarest class that is there at all; 1 without rows."""
        shares = self._shares()
        return float(shares.min()) if len(self) else 1.0

    @property
    def rarity(self) -> float:
        """How many times fewer rows than a quarter are outside the commonest class; 1 at least.

        One small class among many decides nothing alone.
        """
        return min(max(1.0, 0.25 / max(self.uncommon, 1e-6)), MOST_RARITY) if len(self) else 1.0

    @property
    def uncommon(self) -> float:
        """Share of the rows that are not of the commonest class."""
        return 1 - float(self._shares().max()) if len(self) else 0.0

    def _shares(self) -> NDArray[np.float64]:
        counts = np.bincount(self.labels.astype(np.int64), self.weights)
        return np.asarray(counts[counts > 0] / max(counts.sum(), 1))
