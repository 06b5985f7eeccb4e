"""The gate: a challenger serves only when labels it never trained on say that it is better."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.e_process import MEMORY, EProcess
from bento_selfheal.healing.evidence.reach import Reach
from bento_selfheal.scoring.scores import NOTHING, Scores

LEAST_ADVANCE = 5


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, with what it decided on."""

    promote: bool
    reason: str
    evidence: dict[str, float]
    ended: bool = False
    """The trial ran its length without a decision; a new one has begun."""
    withheld: bool = False
    """The gate would promote, and something else speaks against it: the reason says what."""


@dataclass
class Trial:
    """A challenger on its way to the gate."""

    version: int = 0
    """Its newest post-heal snapshot; 0 before the first."""
    fresh: bool = False
    """Whether that snapshot is what the challenger is now."""
    scores: Scores = NOTHING
    """Of the challenger, each row scored before it trained on it."""
    first_label: int = 0
    last_label: int = 0
    """Range of feedback places that the evidence rests on."""
    withheld: bool = False
    """Whether its promotion was held back, which an event has said."""


@dataclass
class Gate:
    """Compares the challenger with the champion on rows that neither trained on.

    A line of challengers first has to prove itself against what served before it: in the
    k-th trial the evidence must reach k(k + 1)/alpha, so that the chance of ever letting
    through a line that is no better stays under alpha however many trials there are. The
    snapshots of a line that has proven itself follow each other unless the last window of
    ``advance_rows`` rows speaks against it, by a loss of more than a standard error; where labels
    are few, the few must speak against it as loudly as so many would. `Regret` watches what came of
    it. A window ends early where the evidence for the next snapshot reaches 1/alpha: a line that
    has learned much since must not go on serving what it was.

    Args:
        alpha: Chance of ever letting through a line that is not better.
        trial_rows: Rows after which an undecided trial ends.
        advance_rows: Rows answered between two looks at the next snapshot of a proven line.
    """

    alpha: float
    trial_rows: int
    advance_rows: int = 100
    process: EProcess = field(default_factory=EProcess)
    proof: float = 0.0
    """Rows of the running evidence, those that stand for few others for a part of one."""
    trials: int = 1
    """Number of the trial that runs."""
    proven: bool = False
    reach: Reach = field(default_factory=Reach)

    @property
    def level(self) -> float:
        """What of alpha the running trial may spend."""
        return self.alpha / (self.trials * (self.trials + 1))

    def update(
        self,
        gains: NDArray[np.floating[Any]],
        rarity: float = 1.0,
        rows_per_label: float = 1.0,
        scale: NDArray[np.float64] | None = None,
    ) -> Verdict:
        """Take the champion's losses less the challenger's on newly labelled rows, ``(n,)``.

        A trial, an advance and the memory of the bets take ``rarity`` times as many rows
        (`LabelledRows.rarity`): where one class has almost all rows, the others decide. Where
        ``rows_per_label`` rows are answered for each label, an advance takes as many fewer labels,
        5 at the least: a line that waited for as many as ever would serve what the world has left
        behind.

        Where only some rows are looked at, ``scale`` is what each difference counts, ``(n,)``
        (`Reach.scale`), and an advance waits for as many rows of full scale.
        """
        told = gains if scale is None else (gains * scale).clip(-1, 1)
        self.process.update(told, MEMORY * rarity)
        self.proof += len(gains) if scale is None else float(np.minimum(scale, 1.0).sum())
        evidence = self.evidence()
        by = "lower" if self.process.mean >= 0 else "higher"
        gain = f"loss {by} by {abs(self.process.mean):.4f} on {self.process.count} new labels"
        if self.proven:
            wanted = max(self.advance_rows * rarity / rows_per_label, LEAST_ADVANCE)
            if self.proof < wanted and not self.process.reaches(self.alpha):
                return Verdict(False, "too few labels since the last look", evidence)
            fewer = max(self.advance_rows * rarity / self.proof, 1.0)
            if self.process.mean >= -self.process.error * math.sqrt(fewer):
                return Verdict(True, f"a proven line goes on: {gain}", evidence)
            self.restart()  # an old loss must not outweigh a new gain
            return Verdict(False, f"a proven line waits: {gain}", evidence)
        if self.process.reaches(self.level):
            self.proven = True
            return Verdict(True, gain, evidence)
        if self.process.count >= self.trial_rows * rarity:
            reason = f"undecided after {self.process.count} labels"
            self.trials += 1
            self.restart()
            return Verdict(False, reason, evidence, ended=True)
        return Verdict(False, "not enough evidence yet", evidence)

    def evidence(self) -> dict[str, float]:
        """The running evidence, for people and for the promotion log."""
        return {
            "log_e": self.process.log_e,
            "log_e_needed": 0.0 if self.proven else -math.log(self.level),
            "rows": self.process.count,
            "mean_gain": self.process.mean,
            "standard_error": self.process.error,
            "trial": self.trials,
        }

    def restart(self) -> None:
        """Begin to compare anew."""
        self.process, self.proof = EProcess(), 0.0

    def renew(self) -> None:
        """Another line begins, which has yet to prove itself; its trial has its own share."""
        self.trials += self.process.count > 0 or self.proven
        self.proven = False
        self.restart()

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        own = {"proof": self.proof, "trials": self.trials, "proven": self.proven}
        return {"process": asdict(self.process), "reach": asdict(self.reach), **own}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.process = EProcess(**state["process"])
        self.trials, self.proven = state["trials"], state["proven"]
        self.proof = state.get("proof", self.process.count)
        self.reach = Reach(**state.get("reach", {}))  # older releases had none


@dataclass
class Regret:
    """The same test turned round: what a line served against the model that it replaced.

    Args:
        alpha: Chance of taking back a line that is no worse.
        window: Rows after which the test begins anew, so that old gains hide no new loss.
    """

    alpha: float
    window: int
    process: EProcess = field(default_factory=EProcess)

    def update(self, losses: NDArray[np.floating[Any]]) -> str:
        """Take served losses less the replaced model's; why to take the line back, or ""."""
        self.process.update(losses)
        process = self.process
        if process.reaches(self.alpha):
            return (
                f"loss higher by {process.mean:.4f} than the model it replaced "
                f"on {process.count} labels"
            )
        if process.count >= self.window:
            self.restart()
        return ""

    def restart(self) -> None:
        """Begin anew."""
        self.process = EProcess()
