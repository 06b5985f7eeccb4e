"""Betting against "no better": an e-process over bounded differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BET_LIMIT = 0.9
MEMORY = 500.0
ROUNDING = 1e-9


@dataclass(frozen=True)
class Prior:
    """What the first bets lean to, before differences tell.

    Attributes:
        bet: A bet, in [0, 0.9].
        weight: How many units of squared differences weigh as much as it.
    """

    bet: float = 0.0
    weight: float = 1.0


DAMPED = Prior()


@dataclass
class EProcess:
    """Betting e-process against "the mean of d is never above 0", d in [-1, 1].

    ``E = prod(1 + bet * d)``, each bet chosen from earlier d only (an approximate growth-rate
    optimum: mean over second moment, within [0, 0.9]; Waudby-Smith & Ramdas 2023, section 5).
    Both moments fade by half every 500 rows, or as many as `update` is told, so that a
    challenger which was worse at first is bet on soon after it becomes better. By Ville's
    inequality E reaches 1/alpha with a chance of at most alpha, whenever one looks, as long as no
    d has a positive mean given all that came before.

    >>> e = EProcess()
    >>> e.update(np.full(40, 0.3)); e.reaches(0.05)
    True
    """

    log_e: float = 0.0
    count: int = 0
    total: float = 0.0
    power: float = 0.0
    recent: float = 0.0
    squares: float = 0.0

    def update(
        self,
        differences: NDArray[np.floating[Any]],
        memory: float = MEMORY,
        prior: Prior = DAMPED,
    ) -> None:
        """Take score differences in the order in which their labels came.

        Args:
            differences: In [-1, 1], ``(n,)``.
            memory: Differences after which one counts half for the next bet.
            prior: What the first bets lean to.

        Raises:
            ValueError: One is outside [-1, 1], or no number: a bet on it could win without end.
        """
        outside = ~(np.abs(differences) <= 1 + ROUNDING)
        if outside.any():
            found = float(differences[outside][0])
            raise ValueError(f"a difference of losses is {found:g}, which is not in [-1, 1]")
        fade = 0.5 ** (1 / memory)
        for d in differences.tolist():
            self.log_e += math.log1p(self.bet(prior) * d)
            self.count += 1
            self.total += d
            self.power += d * d
            self.recent = self.recent * fade + d
            self.squares = self.squares * fade + d * d

    def bet(self, prior: Prior = DAMPED) -> float:
        """The next bet, from the past and the prior alone."""
        mean = (self.recent + prior.bet * prior.weight) / (prior.weight + self.squares)
        return min(max(mean, 0.0), BET_LIMIT)

    def reaches(self, alpha: float) -> bool:
        """Whether the evidence stands at 1/alpha now."""
        return self.log_e >= -math.log(alpha)

    @property
    def mean(self) -> float:
        """Mean of the differences so far; 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        if not self.count:
            return 0.0
        return math.sqrt(max(self.power / self.count - self.mean**2, 0.0) / self.count)
