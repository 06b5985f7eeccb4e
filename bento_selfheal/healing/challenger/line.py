"""The line of challengers that trains while another adapter serves, on its way to the gate."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.transitions import LINES, Line, Turn, follow
from bento_selfheal.experts.mixture import under
from bento_selfheal.experts.race import Race
from bento_selfheal.healing.challenger.anchor import Anchor, Basis
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.newest import NewestRows
from bento_selfheal.healing.challenger.schedule import Schedule
from bento_selfheal.healing.champion.lineage import Lineage
from bento_selfheal.healing.evidence.gate import Gate, Trial, Verdict
from bento_selfheal.healing.evidence.ranking import RankingGuard
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.experts import open_race
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import decide_or_half, probabilities_or_half
from bento_selfheal.scoring.scores import Scores

log = logging.getLogger(__name__)

MOST_ROWS_PER_LABEL = 20.0
PREFIXES = ("challenger.", "average.", "moments.")
"""Of the tensors of a state: trained weights, their average, Adam's moments."""
RACE, PAST, RANKING = "race.", "past.", "ranking."
LARGEST, SMALLEST = 25, 5
ROWS_A_HEAL = 100
"""Rows after which a batch ends, however few of them have a label, down to the smallest."""
YOUNG = 3
"""A batch is no larger than one part in so many of what a line has seen."""


class ChallengerLine:
    """A challenger with its anchor, its trial and the gate that it has to pass.

    Args:
        package: The packaged model.
        settings: How to train, and what the gate asks for.
        lineage: What serves, where a line begins.

    Attributes:
        challenger: What trains.
        anchor: The baseline as recent labels have it.
        trial: What the challenger has shown so far; None before its first round.
        gate: Compares it with the champion.
        ranking: Holds back what ranks rows worse.
        newest: The newest rows that were answered.
        losses: Each loss of the newest round of training.
    """

    def __init__(self, package: Package, settings: Settings, lineage: Lineage) -> None:
        self._package = package
        self._settings = settings
        self._lineage = lineage
        self._basis = Basis.of(package)
        races = settings.tuning.recipe == "race"
        self._race = open_race(package) if races else None
        self.gate = Gate(
            settings.gate_alpha, settings.tuning.trial_rows, settings.tuning.advance_rows
        )
        self.trial: Trial | None = None
        self.losses: dict[str, float] = {}
        self._healed_at = 0
        self.newest = NewestRows(package)
        self._begin(lineage.champion)

    def _begin(self, start: SelfHealingModel) -> None:
        self.anchor = Anchor(self._basis, self._settings.tuning.anchor_ridge)
        self.ranking = RankingGuard()
        baseline = self._package.model
        lr = Schedule(self._settings.tuning).learning_rate(baseline.reflexive.dim)
        race = deepcopy(self._race)
        self.challenger = Challenger(start, lr, baseline, self.anchor, race)

    @property
    def position(self) -> Line:
        """Where the line stands."""
        if self.trial is None:
            return Line.NEW
        return Line.PROVEN if self.gate.proven else Line.ON_TRIAL

    @property
    def batch_labels(self) -> int:
        """Labels that make a batch: fewer for a young line, whose first ones decide when it
        serves."""
        p = self._settings.tuning
        if p.recipe != "race" or self._settings.gate == "always":
            return p.batch_size
        few = max(round(ROWS_A_HEAL / self.challenger.rows_per_label), SMALLEST)
        young = max(self.challenger.seen // YOUNG, p.heal_rows)
        return min(young, few, LARGEST, p.batch_size)

    def restart(self, start: SelfHealingModel | None = None) -> None:
        """Another line begins, from a model or from what serves; it has yet to prove itself."""
        before = self.position
        self._begin(start or self._lineage.champion)
        self.trial = None
        self.gate.renew()
        follow(LINES, before, Turn.RESTART, self.position)

    def taken_back(self) -> None:
        """What the line served is taken back: it trains on, and has to prove itself again."""
        before = self.position
        if self.trial is not None:
            self.trial = Trial(self.trial.version, self.trial.fresh)
        self.ranking = RankingGuard()
        self.gate.renew()
        follow(LINES, before, Turn.TAKE_BACK, self.position)

    def stand_alone(self) -> None:
        """None of the line's snapshots is kept: as `taken_back`."""
        if self.trial is not None:
            self.trial = Trial()
        self.taken_back()

    def begin_round(self) -> Trial:
        """A round of training begins: the snapshot on trial is no longer what the challenger is."""
        before, self.trial = self.position, self.trial or Trial()
        follow(LINES, before, Turn.TRAIN, self.position)
        self.trial.fresh = False
        return self.trial

    def answer(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the challenger says of rows ``(n, features)``."""
        return probabilities_or_half(self.challenger.answers, rows)

    def judge(
        self,
        gains: NDArray[np.float64],
        rarity: float,
        scale: NDArray[np.float64] | None = None,
        objection: str = "",
    ) -> Verdict:
        """Let the gate look at newly labelled rows.

        Args:
            gains: The champion's losses less the challenger's, ``(n,)``.
            rarity: How rare the rarest class is (`LabelledRows.rarity`).
            scale: What each counts where only some rows are looked at, ``(n,)``.
            objection: Why nothing may be promoted on these labels (`OneSided.objection`).
        """
        before, proven = self.position, self.gate.proven
        pace = self.challenger.rows_per_label
        verdict = self.gate.update(gains, rarity, pace, scale)
        chosen = 1.0 if scale is None else pace  # rows that are chosen to tell much, and no others
        refused = verdict.promote and (
            objection or self._below_floor() or self.ranking.refusal(chosen)
        )
        if refused:
            self.gate.proven = proven  # what has not served yet has not proven itself
            verdict = replace(verdict, promote=False, withheld=True, reason=refused)
        follow(LINES, before, Turn.JUDGE, self.position)
        return verdict

    def _below_floor(self) -> str:
        """Why the challenger may not serve at all; empty when it may."""
        package, floor = self._package, self._settings.tuning.reference_floor
        if floor == 0:
            return ""  # nothing is below it
        answers = decide_or_half(self.challenger.answers, package.reference_hidden)
        accuracy = Scores.of(answers, package.reference_labels).accuracy
        if accuracy >= floor:
            return ""
        return f"accuracy {accuracy:.3f} on the reference set is under the floor of {floor}"

    def hear(self) -> bool:
        """Tell the experts what the newest rows are like; whether the challenger's answers change
        by it."""
        answers, race = self.challenger.answers, self.challenger.race
        if race is None or (inputs := self.newest.inputs()) is None:
            return False
        race.surround(inputs)
        if answers.mixture is None:
            return False
        answers.mixture = race.mixture()
        return True

    def hear_between_heals(self, predictions: int) -> Tensor | None:
        """What the newest rows are like, ``(inputs,)``, which the challenger has heard as well.

        Args:
            predictions: Place in the log of the newest prediction.

        Returns:
            None where there is nothing new to hear, or nobody wants to know.
        """
        race = self.challenger.race
        if race is None or not self.hear() or race.context is None:
            return None
        if self.trial is not None:
            self.trial.fresh = False
        self.challenger.past.hear(predictions, race.context)
        return race.context

    def begin_heal(self, labels: int, predicted: int) -> None:
        """A heal begins: how many rows were answered for each label that came since the last one.

        Args:
            labels: Labels that came since.
            predicted: Rows answered so far.
        """
        answered, self._healed_at = predicted - self._healed_at, predicted
        pace = min(max(answered / max(labels, 1), 1.0), MOST_ROWS_PER_LABEL)
        self.challenger.rows_per_label = pace
        if not self.gate.proven:
            self.hear()

    def heal_ended(self, predictions: int) -> None:
        """Keep what the line is like from this place of the log of predictions on."""
        challenger = self.challenger
        if challenger.race is not None:
            challenger.past.keep(predictions, challenger.answers.reflexive, challenger.race)

    def world_moved(self) -> None:
        """The challenger may move in longer steps again."""
        self.challenger.rounds = 0

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        challenger = self.challenger
        raced = {} if challenger.race is None else challenger.race.state()
        parts: tuple[dict[str, Tensor], ...] = (
            challenger.model.adapter_state(),
            challenger.answers.layer_state(),
            challenger.moments(),
        )
        return {
            "anchor": self.anchor.weights.clone(),
            **{
                f"{prefix}{name}": value
                for prefix, part in zip(PREFIXES, parts, strict=True)
                for name, value in part.items()
            },
            **{f"{RACE}{name}": value for name, value in raced.items()},
            **{f"{PAST}{name}": value for name, value in challenger.past.state().items()},
            **{f"{RANKING}{name}": value for name, value in self.ranking.state().items()},
            "anchor_fitted": self.anchor.fitted,
            "rounds": challenger.rounds,
            "seen": challenger.seen,
            "examined": challenger.examined,
            "rows_per_label": challenger.rows_per_label,
            "trial": asdict(self.trial) if self.trial else None,
            "gate": self.gate.state(),
            "losses": self.losses,
            "healed_at": self._healed_at,
            **self.newest.state(),
        }

    def _restored_race(self, raced: dict[str, Tensor], past: dict[str, Tensor]) -> Race | None:
        """The race of a checkpoint; as the package has it where the experts are others."""
        race = deepcopy(self._race)
        if race is None:
            return None
        try:
            race.restore(raced)
        except RuntimeError as error:
            log.warning(
                "the checkpoint holds the experts of another release (%s); those of this one begin "
                "with what they know from the package", error,
            )  # fmt: skip
            return deepcopy(self._race)
        self.challenger.past.restore(past, self.challenger.answers.reflexive, race)
        return race

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave; the lineage must be restored before."""
        self._begin(self._lineage.champion)
        weights, average, moments = (under(prefix, state) for prefix in PREFIXES)
        self.challenger.load(weights, average)
        self.challenger.load_moments(moments)
        for name in ("rounds", "seen", "rows_per_label"):
            setattr(self.challenger, name, state[name])
        self.challenger.examined = state.get("examined", state["seen"] > 0)
        if raced := under(RACE, state):
            self.challenger.race = self._restored_race(raced, under(PAST, state))
            if self.challenger.race is not None:
                self.challenger.answers.mixture = self.challenger.race.mixture()
        if state["anchor"].shape == self.anchor.weights.shape:
            # Earlier releases left out all features where there were many; it is fitted anew then.
            self.anchor.weights, self.anchor.fitted = state["anchor"], state["anchor_fitted"]
        if state["trial"] is not None:
            trial = dict(state["trial"])
            self.trial = Trial(**{**trial, "scores": Scores(**trial["scores"])})
        self.gate.restore(state["gate"])
        self.ranking.restore(under(RANKING, state))
        self.losses, self._healed_at = state["losses"], state["healed_at"]
        self.newest.restore(state)
