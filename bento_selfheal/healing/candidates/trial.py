"""The evidence about one candidate: the gate's test on labels that come later."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.candidates.candidate import Candidate
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.text import counted
from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.scoring.losses import row_losses

MOST_LABELS = 20_000
"""Labels after which a candidate that has proven nothing is withdrawn."""
MOST_FAILURES = 0.01
"""Share of its requests that a candidate may fail."""
FEW_FAILURES = 5
FEW_LATE = 20
"""A busy machine makes some late, and the first call of a model is slow."""
MOST_ENDS = 3
"""How often its processes may end or hang before it is withdrawn."""
ENDS = {"ended": "ended", "hung": "hung", "outgrew": "took too much memory"}
COUNTED = ("answered", "failed", "served", "tried", "late", "lost", *ENDS)
QUANTILE = 1.96


class Move(StrEnum):
    """What becomes of a candidate."""

    STAY = "stay"
    STEP = "step"
    PROMOTE = "promote"
    WITHDRAW = "withdraw"


@dataclass
class CandidateTrial:
    """Compares a candidate with the healed champion on the same rows, over its whole ramp.

    One e-process runs from the first labelled row to the last: whenever it is looked at, a
    candidate that is no better reaches 1/alpha with a chance of at most alpha (Ville). So steps
    cost nothing, and the error over the whole ramp stays under alpha. The same test turned round
    withdraws a candidate that is worse.

    Attributes:
        better: Evidence that the candidate's loss is lower than what the champion answered.
        worse: Evidence that it is higher.
        step: The step that it stands at.
        labels_before: Labelled rows before that step.
        right: Sum over rows of the candidate's right decisions less the champion's.
        differing: Rows that one of them decided right, and the other wrong.
    """

    better: EProcess = field(default_factory=EProcess)
    worse: EProcess = field(default_factory=EProcess)
    step: int = 0
    labels_before: int = 0
    right: int = 0
    differing: int = 0

    def update(
        self,
        champion: NDArray[np.float32],
        candidate: NDArray[np.float32],
        labels: NDArray[np.float32],
        costs: Thresholds,
        scale: NDArray[np.float64] | None = None,
    ) -> None:
        """Take newly labelled rows in the order of their labels.

        Args:
            champion: What the healed champion said of them, ``(n,)`` or ``(n, classes)``.
            candidate: What the candidate said.
            labels: Indices of classes, ``(n,)``.
            costs: What mistakes cost.
            scale: What each difference counts, ``(n,)`` in [0, 1], as of `Gate.update`.
        """
        losses = row_losses(champion, labels, costs)
        gains = losses - row_losses(candidate, labels, costs)
        told = gains if scale is None else (gains * scale).clip(-1, 1)
        self.better.update(told)
        self.worse.update(-told)
        at = costs.bayes_threshold
        old, new = (decide_classes(said, at) == labels for said in (champion, candidate))
        self.right += int(new.sum()) - int(old.sum())
        self.differing += int((old != new).sum())

    def at_step(self, step: int) -> None:
        """The candidate stands at this step."""
        if step != self.step:
            self.step, self.labels_before = step, self.better.count

    def judge(
        self, candidate: Candidate, alpha: float, counts: Mapping[str, Any], objection: str = ""
    ) -> tuple[Move, str]:
        """What becomes of the candidate, and why.

        Args:
            candidate: As the store has it.
            alpha: Chance that a candidate which is no better is ever promoted.
            counts: What the processes counted of it.
            objection: Why nothing may be promoted on these labels; empty when it may.
        """
        if why := failing(counts):
            return Move.WITHDRAW, why
        self.at_step(candidate.step)
        count, by = self.better.count, abs(self.better.mean)
        if self.worse.reaches(alpha):
            return (
                Move.WITHDRAW,
                f"loss higher by {by:.4f} on {counted(count, 'label')} than the champion's",
            )
        last = candidate.step == len(candidate.ramp) - 2
        if count - self.labels_before < candidate.min_labels:
            return Move.STAY, "too few labels at this step"
        if last and self.better.reaches(alpha):
            if objection:
                return Move.STAY, objection
            return (
                Move.PROMOTE,
                f"loss lower by {by:.4f} on {counted(count, 'label')} than the champion's",
            )
        if count >= MOST_LABELS:
            return Move.WITHDRAW, f"no evidence that it is better after {counted(count, 'label')}"
        if not last and self.better.mean >= -self.better.error:
            return Move.STEP, f"no evidence of harm on {counted(count, 'label')}"
        return Move.STAY, "not enough evidence yet"

    def status(self) -> dict[str, Any]:
        """The evidence, for people: lift in accuracy with its 95 % interval, and the bets."""
        n = max(self.better.count, 1)
        mean = self.right / n
        half = QUANTILE * math.sqrt(max(self.differing / n - mean**2, 0.0) / n)
        low, high = (mean - half, mean + half) if self.better.count else (-1.0, 1.0)
        return {
            "labels": self.better.count,
            "labels_at_step": self.better.count - self.labels_before,
            "lift": {"mean": mean, "low": low, "high": high},
            "mean_gain": self.better.mean,
            "log_e": self.better.log_e,
            "log_e_worse": self.worse.log_e,
        }

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> CandidateTrial:
        """What `state` gave."""
        both = {name: EProcess(**state[name]) for name in ("better", "worse")}
        return cls(**{**state, **both})


def failing(counts: Mapping[str, Any]) -> str:
    """Why a candidate is withdrawn for what it failed; empty where it is not.

    Args:
        counts: Of all processes, those that there are: requests that it ``answered`` and ``failed``
            (raised, or no probability), with the last ``error``; of those that had a deadline,
            ``served``, ``tried``, ``late`` and ``lost`` (as `Link.counts`); and how often a process
            ``ended``, ``hung`` or ``outgrew`` its memory.
    """
    count = {name: int(counts.get(name, 0)) for name in COUNTED}
    ends = {name: count[name] for name in ENDS}
    if sum(ends.values()) >= MOST_ENDS or count["outgrew"]:
        ways = " and ".join(f"{ENDS[name]} {times(n)}" for name, n in ends.items() if n)
        return f"its process {ways}"
    asked = count["answered"] + count["failed"]
    if count["failed"] >= FEW_FAILURES and count["failed"] > MOST_FAILURES * asked:
        return f"it failed {count['failed']} of {asked} requests: {counts.get('error', '')}"
    late = count["late"] + count["lost"]
    asked = count["served"] + count["tried"] + late
    if late >= FEW_LATE and late > MOST_FAILURES * asked:
        return f"it did not answer {late} of {asked} requests in time"
    return ""


def times(n: int) -> str:
    """A number of times, in words."""
    return "once" if n == 1 else f"{n} times"
