"""Watches what was promoted on labels that come later, and advises a rollback."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import Phase, Snapshot
from bento_selfheal.healing.champion.lineage import Lineage
from bento_selfheal.healing.champion.snapshots import SnapshotHistory
from bento_selfheal.healing.controls import Controls
from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.healing.evidence.gate import Regret
from bento_selfheal.healing.evidence.health import Alarm, Health, better
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.labelled_batch import DecidedAt, LabelledBatch
from bento_selfheal.healing.segments.watch import SegmentWatch
from bento_selfheal.scoring.losses import row_losses
from bento_selfheal.scoring.probabilities import probabilities_or_half
from bento_selfheal.scoring.scores import Scores


@dataclass(frozen=True)
class RollbackAdvice:
    """Where to go back to, and why."""

    left: int
    """Version that serves and should not."""
    target: Snapshot
    reason: str


class RollbackWatch:
    """Compares what was served with what it replaced, or with its own baseline.

    Args:
        settings: Which of the two, and how sure to be.
        controls: Operators' words and thresholds.
        journal: Where it is noted that nothing can be done.
        lineage: What serves and what it replaced.
        history: The snapshots known.
        buffer: The newest labelled rows.
        segments: Watches that no segment is worse off.

    Attributes:
        health: The article's rolling means.
        regret: The gate's test turned round.
        segments: As given.
    """

    def __init__(
        self,
        settings: Settings,
        controls: Controls,
        journal: Journal,
        lineage: Lineage,
        history: SnapshotHistory,
        buffer: Buffer,
        segments: SegmentWatch,
    ) -> None:
        self._settings = settings
        self._controls = controls
        self._journal = journal
        self._lineage = lineage
        self._history = history
        self._buffer = buffer
        self.segments = segments
        self.health = Health(settings.tuning.health_window, history.figures)
        self.regret = Regret(settings.tuning.regret_alpha, settings.tuning.trial_rows)

    @property
    def always_promotes(self) -> bool:
        """Whether there is no gate."""
        return self._settings.gate == "always"

    @property
    def by_evidence(self) -> bool:
        """Whether a line is taken back on evidence, not for its health."""
        return self._settings.gate == "evidence" and self._settings.health == "evidence"

    def restart(self) -> None:
        """Another line begins."""
        self.health.restart()
        self.regret.restart()

    def rolled_back(self) -> bool:
        """A line was taken back; whether the next one begins from what serves now."""
        self.health.restart(keep_baseline=self.always_promotes)
        return self.always_promotes or self._settings.health == "article"

    def promoted(self, proven: Scores, *, left_predecessor: bool) -> None:
        """A challenger serves: its health is measured by what it has proven at the gate."""
        if self._settings.gate == "evidence" and left_predecessor:
            self.health.restart()
            self.health.begin(proven.accuracy, proven.f1)

    def check(
        self, batch: LabelledBatch, thresholds: DecidedAt, labelled_batches: int
    ) -> RollbackAdvice | None:
        """Take a labelled batch; where to go back to, or None.

        Args:
            batch: Rows with what was answered to them.
            thresholds: The decision thresholds in force.
            labelled_batches: How many there were, this one included.
        """
        if self.by_evidence:
            return self._check_regret(batch)
        return self._check_health(batch, thresholds, labelled_batches)

    def _check_regret(self, batch: LabelledBatch) -> RollbackAdvice | None:
        """What the line answered against what its predecessor would have."""
        before, serving = self._lineage.predecessor, self._lineage.serving
        if before is None or serving is None or serving.version == before.version:
            return None
        its_own = (batch.versions > before.version) & ~self._lineage.canary.tried(batch.versions)
        own = batch.only(np.flatnonzero(its_own))
        if not len(own):
            return None
        costs = self._controls.thresholds
        would = own.answers(self._lineage.predecessor_model)
        losses = row_losses(own.served, own.labels, costs)
        regrets = losses - row_losses(would, own.labels, costs)
        why = self.regret.update((regrets * own.reviewed.watched).clip(-1, 1))
        if not why or self._controls.paused:
            return None
        self.regret.restart()
        if self._controls.observing:
            self._journal.note("would_roll_back", {"version": serving.version, "reason": why})
            return None
        return RollbackAdvice(serving.version, before, why)

    def _check_health(
        self, batch: LabelledBatch, thresholds: DecidedAt, labelled_batches: int
    ) -> RollbackAdvice | None:
        """What the line answered against what it had proven, as the article does."""
        serving = self._lineage.serving
        if serving is None or serving.phase is Phase.CLEAN:
            return None
        watched = np.asarray([self._watches(version) for version in batch.versions.tolist()])
        own = batch.only(np.flatnonzero(watched & ~self._lineage.canary.tried(batch.versions)))
        if len(own) * 2 < len(batch):
            return None
        decided_at = thresholds(own.versions)
        scores = Scores.of(own.served, own.labels, decided_at, own.reviewed.weights)
        if not scores.rows:  # nobody asked for any of these labels
            return None
        self.health.begin(scores.accuracy, scores.f1)
        alarm = self.health.update(scores.accuracy, scores.f1, self._controls.thresholds)
        if alarm is None or self._controls.paused:
            return None
        return self._answer(alarm, serving, labelled_batches)

    def _answer(
        self, alarm: Alarm, serving: Snapshot, labelled_batches: int
    ) -> RollbackAdvice | None:
        """Where to go back to on an alarm; an event says why nowhere."""
        if self._controls.observing:
            kind, detail = "would_roll_back", {"version": serving.version, "reason": alarm.reason}
        else:
            target = (
                self._history.best(other_than=serving.version)
                if self.always_promotes
                else self._better_snapshot(serving.version, alarm, labelled_batches)
            )
            if target is not None:
                return RollbackAdvice(serving.version, target, alarm.reason)
            kind = "rollback_withheld"
            detail = {"reason": f"{alarm.reason}, but nothing kept does better"}
        self._journal.note(kind, detail)
        self.health.restart(keep_baseline=True)
        return None

    def _better_snapshot(
        self, serving: int, alarm: Alarm, labelled_batches: int
    ) -> Snapshot | None:
        """The snapshot that does best, in what fell, on the very rows on which it fell.

        Only ones trained before those rows count: a stream that got harder is no reason to undo
        a heal.
        """
        batches = len(self.health.recent)
        rows = self._buffer.rows().tail(batches * self._settings.tuning.batch_size)
        if not len(rows):
            return None
        before = self._history.before(labelled_batches - batches, other_than=serving)
        kept = self._history.compare(before, rows)
        now = Scores.of(probabilities_or_half(self._lineage.champion, rows.features), rows.labels)
        return better(kept, now, alarm, self._controls.thresholds, self._history.figures)

    def _watches(self, version: int) -> bool:
        """Whether health looks at a row of this version: one of the line that serves.

        Without a gate a version serves for one batch only, so there health looks at all of
        them together, as the article does.
        """
        if self.always_promotes:
            found = self._history.snapshots.get(version)
            return found is not None and found.phase is Phase.POST
        before, serving = self._lineage.predecessor, self._lineage.serving
        if before is None or serving is None:
            return False
        return version == serving.version or version > before.version

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"regret": asdict(self.regret.process), "health": self.health.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.regret.process = EProcess(**state["regret"])
        self.health.restore(state["health"])
