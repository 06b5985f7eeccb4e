"""One bet for each segment that it is worse off by more than a margin."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.e_process import EProcess, Prior

MARGIN = 0.01
"""Points of accuracy that a segment may lose before anything is done about it."""
MEMORY = 2000.0
"""Labels of a segment after which one counts half for the next bet."""
LIKELY = Prior(bet=0.2, weight=10.0)
"""Of the answers that differ, a harmed segment loses some 20 % more than it gains."""


@dataclass
class Bet:
    """Betting against "this segment is worse off by no more than the margin".

    What is bet on is whether the one model is wrong on a row less whether the other is, less the
    margin, in [-1, 1]. By Ville's inequality the evidence reaches 1/alpha with a chance of at most
    alpha, as long as the segment loses no more than the margin given all that came before.
    """

    process: EProcess = field(default_factory=EProcess)
    harm: float = 0.0
    """Sum of the differences, as far as they counted."""
    weight: float = 0.0

    def take(
        self,
        harms: NDArray[np.float64],
        scale: NDArray[np.float64],
        margin: float = MARGIN,
    ) -> None:
        """Take labelled rows in the order of their labels.

        Args:
            harms: Whether one model is wrong less whether the other is, ``(n,)``.
            scale: What each counts, in [0, 1], ``(n,)``.
            margin: What may be lost.
        """
        self.process.update((harms - margin) * scale / (1 + margin), MEMORY, LIKELY)
        self.harm += float(harms @ scale)
        self.weight += float(scale.sum())

    @property
    def mean(self) -> float:
        """Points of accuracy lost; negative where some were gained."""
        return self.harm / self.weight if self.weight else 0.0

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Bet:
        """What `asdict` was taken of."""
        return cls(**{**state, "process": EProcess(**state["process"])})


@dataclass
class SegmentGuard:
    """Watches every segment, before a promotion and after it.

    A segment spends its equal share of alpha (Bonferroni); of it, the k-th test of a segment may
    spend 1/(k(k + 1)), as the k-th trial at the gate. The evidence of a test is the mean of two
    bets', on what is on trial and on what is served. So the chance that a segment is ever left out
    that loses no more than the margin, over all segments and all promotions, stays under alpha. A
    bet goes on from promotion to promotion, each of which may take a little.

    A segment that was found worse off gets the healed answers again once they have shown to be
    better in it than what they replace, by a bet of the same kind without a margin.

    Args:
        segments: How many there are.
        alpha: Chance of ever leaving out one that loses no more than the margin.
    """

    segments: int
    alpha: float

    def __post_init__(self) -> None:
        count = self.segments
        self.trial = [Bet() for _ in range(count)]
        """Of each, the challenger against what it would replace; of one that is left out, whether
        the challenger is better."""
        self.served = [Bet() for _ in range(count)]
        """Of each, what was served against what it replaced."""
        self.tests = [1] * count
        """Number of the test of each that runs."""
        self.left = [False] * count
        """Which are left out."""

    def level(self, place: int) -> float:
        """What of alpha the running test of a segment may spend."""
        tests = self.tests[place]
        return self.alpha / (self.segments * tests * (tests + 1))

    def _proven(self, place: int) -> bool:
        """Whether the mean of both bets' evidence stands at one over the level."""
        both = np.logaddexp(self.trial[place].process.log_e, self.served[place].process.log_e)
        return bool(both - np.log(2) >= -np.log(self.level(place)))

    def try_challenger(
        self,
        members: NDArray[np.bool_],
        harms: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> list[int]:
        """Take the challenger's errors less those of what it would replace.

        Args:
            members: Segments of the rows, ``(n, segments)``.
            harms: The differences, ``(n,)``, of what it says itself also where it is left out.
            scale: What each counts, in [0, 1], ``(n,)``.

        Returns:
            Places of the segments that are left out from now on, or no more: `left` says which.
        """
        changed = []
        for place in np.flatnonzero(members.any(axis=0)).tolist():
            own, bet, left = members[:, place], self.trial[place], self.left[place]
            bet.take(*((-harms[own], scale[own], 0.0) if left else (harms[own], scale[own])))
            if self._proven(place):
                changed.append(place)
        for place in changed:
            self.left[place] = not self.left[place]
            self.tests[place] += not self.left[place]
        return changed

    def watch_served(
        self,
        members: NDArray[np.bool_],
        harms: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> list[int]:
        """Take the errors of what was served less those of what it replaced, as `try_challenger`;
        places of the segments that are left out from now on."""
        changed = []
        for place in np.flatnonzero(members.any(axis=0)).tolist():
            if self.left[place]:
                continue  # of before it was left out
            own, bet = members[:, place], self.served[place]
            bet.take(harms[own], scale[own])
            if self._proven(place):
                changed.append(place)
                self.left[place] = True
        return changed

    def begin_test(self, place: int) -> None:
        """Bet anew on a segment, after it was left out or is no more."""
        self.trial[place], self.served[place] = Bet(), Bet()

    def begin_line(self) -> None:
        """Something else is replaced from now on: every segment is tested anew."""
        for place in range(self.segments):
            begun = self.trial[place].process.count or self.served[place].process.count
            self.tests[place] += bool(begun)
            self.left[place] = False
            self.begin_test(place)

    def state(self, place: int) -> dict[str, Any]:
        """Of one segment, as JSON values."""
        return {
            "trial": asdict(self.trial[place]), "served": asdict(self.served[place]),
            "tests": self.tests[place], "left": self.left[place],
        }  # fmt: skip

    def restore(self, place: int, state: dict[str, Any]) -> None:
        """Put back what `state` gave of one segment."""
        self.trial[place] = Bet.restored(state["trial"])
        self.served[place] = Bet.restored(state["served"])
        self.tests[place], self.left[place] = state["tests"], state["left"]
