"""The gate: a challenger serves only when labels it never trained on say that it is better."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BET_LIMIT = 0.5


@dataclass
class EProcess:
    """Betting e-process against "the mean of d is not above 0", d in [-1, 1].

    ``E = prod(1 + bet * d)``, each bet chosen from earlier d only (an approximate growth-rate
    optimum: mean over second moment, within [0, 0.5]; Waudby-Smith & Ramdas 2023, section 5).
    By Ville's inequality E reaches 1/alpha with a chance of at most alpha when d has no
    positive mean, whenever one looks.

    >>> e = EProcess()
    >>> e.update(np.full(40, 0.3)); e.reaches(0.05)
    True
    """

    log_e: float = 0.0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def update(self, differences: NDArray[np.floating[Any]]) -> None:
        """Take score differences in the order in which their labels came, ``(n,)``."""
        for d in differences.tolist():
            self.log_e += math.log1p(self.bet() * d)
            self.count += 1
            self.total += d
            self.squares += d * d

    def bet(self) -> float:
        """The next bet, from the past alone; one unit of prior spread damps the first ones."""
        return min(max(self.total / (1.0 + self.squares), 0.0), BET_LIMIT)

    def reaches(self, alpha: float) -> bool:
        """Whether the evidence stands at 1/alpha now."""
        return self.log_e >= -math.log(alpha)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, with what it decided on."""

    promote: bool
    reason: str
    evidence: dict[str, float]
    ended: bool = False
    """The trial ran its length without a decision; a new one has begun."""


@dataclass
class Gate:
    """Compares the challenger with the champion on rows that neither trained on.

    The score is the Brier score, so each difference lies in [-1, 1] and both ranking and
    calibration count.

    Args:
        alpha: Chance of letting through a challenger that is not better.
        trial_rows: Rows after which an undecided trial ends.
    """

    alpha: float
    trial_rows: int
    process: EProcess = field(default_factory=EProcess)

    def update(
        self,
        champion: NDArray[np.float32],
        challenger: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> Verdict:
        """Score one newly labelled batch; every array ``(n,)``."""
        better = (champion - labels) ** 2 - (challenger - labels) ** 2
        self.process.update(better.astype(np.float64))
        evidence = self.evidence()
        if self.process.reaches(self.alpha):
            reason = (
                f"Brier score better by {self.process.mean:.4f} on {self.process.count} new labels"
            )
            return Verdict(True, reason, evidence)
        if self.process.count >= self.trial_rows:
            self.process = EProcess()
            reason = f"undecided after {self.trial_rows} labels"
            return Verdict(False, reason, evidence, ended=True)
        return Verdict(False, "not enough evidence yet", evidence)

    def evidence(self) -> dict[str, float]:
        """The running evidence, for people and for the promotion log."""
        return {
            "log_e": self.process.log_e,
            "log_e_needed": -math.log(self.alpha),
            "rows": self.process.count,
            "mean_gain": self.process.mean,
        }

    def restart(self) -> None:
        """Begin a new trial: the champion has changed."""
        self.process = EProcess()
