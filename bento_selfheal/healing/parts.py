"""The parts of a pipeline, and how they are wired: each owns its state, and calls go down only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import State
from bento_selfheal.healing.candidates.trials import CandidateTrials
from bento_selfheal.healing.causes.causes import Causes
from bento_selfheal.healing.challenger.line import ChallengerLine
from bento_selfheal.healing.champion.canary import Canary
from bento_selfheal.healing.champion.lineage import Lineage
from bento_selfheal.healing.champion.operating_point import ThresholdPolicy
from bento_selfheal.healing.champion.rollback import RollbackWatch
from bento_selfheal.healing.champion.snapshots import Seen, SnapshotHistory, SnapshotStore
from bento_selfheal.healing.controls import Controls, Cursors
from bento_selfheal.healing.drift.watch import DriftWatch
from bento_selfheal.healing.evidence.one_sided import OneSided
from bento_selfheal.healing.evidence.retrain import RetrainAdvice
from bento_selfheal.healing.evidence.rule_record import RuleRecord
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.batches import LabelBatches
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.review.contest import Contest
from bento_selfheal.healing.scoreboard import Scoreboard
from bento_selfheal.healing.segments.watch import SegmentWatch
from bento_selfheal.healing.state import ShownState
from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import RuleSet
from bento_selfheal.scoring.scores import telling_figures
from bento_selfheal.telemetry.spans import Telemetry


class Part(Protocol):
    """Something whose state a checkpoint keeps."""

    def state(self) -> dict[str, Any]:
        """Its state, as JSON values and tensors."""

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""


@dataclass(frozen=True)
class Parts:
    """Everything that decides what a pipeline will do next."""

    package: Package
    settings: Settings
    cursors: Cursors
    controls: Controls
    shown: ShownState
    scoreboard: Scoreboard
    drift: DriftWatch
    batches: LabelBatches
    one_sided: OneSided
    buffer: Buffer
    history: SnapshotHistory
    lineage: Lineage
    policy: ThresholdPolicy
    line: ChallengerLine
    rollback: RollbackWatch

    @property
    def candidates(self) -> CandidateTrials:
        """The trials of retrained models."""
        return self.scoreboard.candidates

    @property
    def canary(self) -> Canary:
        """What answers a share of the requests before it answers all."""
        return self.lineage.canary

    def thresholds(self, versions: NDArray[np.int64]) -> float | NDArray[np.float64]:
        """At which threshold rows are decided, by the version that answered each, ``(n,)``."""
        return self.canary.thresholds(versions, self.policy.point.threshold)

    def threshold_of(self, version: int) -> float:
        """At which threshold a version decides."""
        return float(np.max(self.thresholds(np.asarray([version]))))

    @property
    def segments(self) -> SegmentWatch:
        """Watches that no promotion makes a segment worse."""
        return self.rollback.segments

    @property
    def rules(self) -> RuleSet:
        """The rules in force, as far as labels have borne them out."""
        return self.scoreboard.rules.in_force

    def contest(self) -> Contest:
        """How the challenger stands against what serves now."""
        return Contest(self.line.answer, self.controls.thresholds, self.line.gate.proven)

    def seen(self) -> Seen:
        """How far into each log the line has seen."""
        race, maturity = self.line.challenger.race, self.batches.maturity
        hears = race is not None and race.context is not None
        matured = max(maturity.places.matured, 0) if maturity.waits else 0
        return (self.cursors.predictions if hears else matured), self.cursors.feedback

    def calm_state(self) -> State:
        """The state that the signals alone call for."""
        if self.scoreboard.advice.retrain:
            return State.RETRAIN_NEEDED
        return State.HEALTHY if self.drift.signals.calm else State.DRIFTING

    def stateful(self) -> dict[str, Part]:
        """What a checkpoint keeps by name, in the order in which it is restored."""
        return {
            "cursors": self.cursors,
            "controls": self.controls,
            "shown": self.shown,
            "scoreboard": self.scoreboard,
            "drift": self.drift,
            "batches": self.batches,
            "one_sided": self.one_sided,
            "buffer": self.buffer,
            "causes": self.drift.causes,
            "history": self.history,
            "lineage": self.lineage,
            "canary": self.canary,
            "policy": self.policy,
            "line": self.line,
            "rollback": self.rollback,
            "segments": self.segments,
            "candidates": self.candidates,
        }


def make_scoreboard(package: Package, settings: Settings) -> Scoreboard:
    """A fresh scoreboard, with the rules in force."""
    target = package.info.accuracy - settings.retrain_drop
    advice = RetrainAdvice(target, settings.tuning.retrain_batches)
    reference = package.reference_rows, package.reference_labels
    return Scoreboard(advice, RuleRecord(package.rules(), *reference))


def make_parts(
    package: Package,
    settings: Settings,
    snapshots: SnapshotStore,
    thresholds: Thresholds,
    scoreboard: Scoreboard,
    journal: Journal,
    telemetry: Telemetry,
) -> Parts:
    """Fresh parts: nothing was read, and the packaged model serves."""
    controls = Controls(thresholds, settings.mode)
    size = settings.tuning.buffer_rows, len(package.info.features)
    buffer = Buffer(*size, package.embed, package.answer)
    figures = telling_figures(len(package.info.classes))
    history = SnapshotHistory(snapshots, settings.snapshots_kept, telemetry, journal, figures)
    lineage = Lineage(package.model, history, Canary(settings, history))
    causes = Causes(package, settings, buffer, journal)
    drift = DriftWatch(package, settings, scoreboard.rules.in_force, causes)
    return Parts(
        package=package,
        settings=settings,
        cursors=Cursors(),
        controls=controls,
        shown=ShownState(lambda: journal.note("drifting", drift.begin())),
        scoreboard=scoreboard,
        drift=drift,
        batches=LabelBatches(package, settings),
        one_sided=OneSided(package, settings.unreported),
        buffer=buffer,
        history=history,
        lineage=lineage,
        policy=ThresholdPolicy(package.binary, journal),
        line=ChallengerLine(package, settings, lineage),
        rollback=RollbackWatch(
            settings,
            controls,
            journal,
            lineage,
            history,
            buffer,
            SegmentWatch(package, settings, lineage),
        ),
    )
