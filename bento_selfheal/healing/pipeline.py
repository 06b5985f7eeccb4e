"""The pipeline: it reads both logs and decides on heals, promotions and rollbacks.

The same log gives the same heals, to the bit: no decision depends on the clock, and every random
draw is seeded by the number of its heal. The pipeline touches no store. Its caller collects the
decisions as an `Outcome` and writes them in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.log.erased import without_erased
from bento_selfheal.core.log.horizon import Horizon
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord, Promotion, Snapshot, State
from bento_selfheal.core.transitions import Cause, forward
from bento_selfheal.healing.challenger.heal import Healer
from bento_selfheal.healing.challenger.judge import SourceJudge
from bento_selfheal.healing.champion.promoter import Promoter
from bento_selfheal.healing.champion.rollout import Rollout
from bento_selfheal.healing.champion.snapshots import SnapshotStore
from bento_selfheal.healing.drift.watch import Rows
from bento_selfheal.healing.journal import Journal, Outcome
from bento_selfheal.healing.labels.intake import LabelIntake
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.healing.measurements import measurement_of
from bento_selfheal.healing.parts import make_parts, make_scoreboard
from bento_selfheal.healing.status import status_of
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry


class Pipeline:
    """Consumes both logs in their common order.

    Args:
        package: The packaged model; with its clean adapter it is the baseline.
        settings: How to watch and heal.
        snapshots: Where adapters are kept.
        thresholds: The rollback thresholds in force; replaced from outside when they change.
        telemetry: Where spans go.
        announce: Called when a heal begins, with the state to show.

    Attributes:
        parts: Everything that decides what it will do next.
        journal: What it decided since `collect`.
    """

    def __init__(
        self,
        package: Package,
        settings: Settings,
        snapshots: SnapshotStore,
        *,
        thresholds: Thresholds,
        telemetry: Telemetry,
        announce: Callable[[State], None] = lambda state: None,
    ) -> None:
        scoreboard = make_scoreboard(package, settings)
        self._telemetry = telemetry
        self.journal = Journal(telemetry, scoreboard)
        self.parts = p = make_parts(
            package, settings, snapshots, thresholds, scoreboard, self.journal, telemetry
        )
        self.judge = SourceJudge(p.controls, self.journal, p.batches, p.buffer, p.line, p.lineage)
        self.intake = LabelIntake(p, self.journal, self.judge)
        self.promoter = Promoter(p, self.journal, telemetry)
        self.rollout = Rollout(self.promoter)
        self.healer = Healer(self.rollout, self.judge, announce)

    # -- what comes in -----------------------------------------------------------------------

    def consume(
        self,
        entry: PredictionRecord | FeedbackRecord,
        prediction: PredictionRecord | None = None,
        horizon: Horizon | None = None,
    ) -> None:
        """Take the next entry of the logs.

        Args:
            entry: A prediction or a label.
            prediction: The logged prediction of a label.
            horizon: What the prediction log no longer has.
        """
        cursors, joiner = self.parts.cursors, self.parts.batches.joiner
        if isinstance(entry, PredictionRecord):
            cursors.predictions = forward("predictions", cursors.predictions, entry.seq)
            seen = without_erased(entry)
            if seen is None or not self.intake.take_prediction(seen):
                return
            if not entry.retried:
                self._watch(entry, seen)
            rows = joiner.prediction(entry)
        else:
            cursors.feedback = forward("feedback", cursors.feedback, entry.seq)
            if prediction is not None and self.intake.is_useless(prediction):
                joiner.unmatched += 1
                return
            rows = joiner.label(entry, prediction, horizon)
        for batch in self.intake.take_labels(rows, entry.time):
            self._learn(batch)
        if any(row.new_class is not None for row in rows):
            self.healer.advise_retrain()

    def mature(
        self, asked: PredictionRecord, labels: Sequence[FeedbackRecord], now: float, lost: int = 0
    ) -> None:
        """Take the oldest request that waits, once it is old enough: `LabelIntake.mature`."""
        for batch in self.intake.mature(asked, labels, now, lost):
            self._learn(batch)

    def adopt(self, promotion: Promotion, *, keep_line: bool = False) -> None:
        """Serve what the promotion log says: `Promoter.adopt`."""
        self.promoter.adopt(promotion, keep_line=keep_line)

    def fall_back(self, promotions: Sequence[Promotion], newest: int) -> None:
        """Serve the newest promotion that verifies: `Promoter.fall_back`."""
        self.promoter.fall_back(promotions, newest)

    def heal_now(self, by: str = "operator") -> bool:
        """Heal at once on the labels that are there; False when there are none."""
        if not len(self.parts.buffer):
            self.journal.note("heal_skipped", {"reason": "no labelled rows yet", "by": by})
            return False
        self.journal.note("heal_asked", {"by": by})
        self.healer.heal("asked for by an operator", LabelledBatch.empty(self.parts.package))
        return True

    def apply_command(self, word: str, by: str = "operator") -> None:
        """Carry out ``pause``, ``observe`` or ``resume``; a setting cannot be overruled by it."""
        self.parts.controls.apply(word)
        self.journal.note(word, {"by": by})

    def forget(self, source: str, reason: str, by: str = "runner") -> int:
        """Learn from a source no more, drop its rows, and begin a new line without them."""
        gone = self.judge.forget(source, reason, by)
        self.rollout.settle()
        return gone

    # -- what goes out -----------------------------------------------------------------------

    def collect(self) -> Outcome:
        """Hand over what was decided, once."""
        return replace(self.journal.collect(), snapshots=self.parts.history.collect())

    def surplus(self) -> list[Snapshot]:
        """Snapshots over the bound, forgotten here; what serves, or may again, and trial stay."""
        p, trial = self.parts, self.parts.line.trial
        return p.history.surplus(p.lineage.needed | {trial.version if trial else 0})

    def status(self) -> dict[str, Any]:
        """Everything that a page, a metric or an operator wants to know, as JSON values."""
        return status_of(self.parts)

    # -- rows --------------------------------------------------------------------------------

    def _watch(self, entry: PredictionRecord, seen: PredictionRecord) -> None:
        """Watch a request; ``seen`` is it without erased rows."""
        p = self.parts
        p.scoreboard.answered(entry)
        p.line.newest.take(seen.features, seen.time)
        self.journal.outcome.asked += p.batches.selection.choose(entry, p.contest())
        for batch in p.drift.add(seen):
            self._read_signals(batch)
            if self.journal.signals_are_due():
                self.journal.measure(measurement_of(p, scored=False))
        self.promoter.refresh()

    def _read_signals(self, batch: Rows) -> None:
        p = self.parts
        p.scoreboard.counts.batches += 1
        with self._telemetry.span(names.SIGNAL, {names.BATCH: p.scoreboard.counts.batches}) as span:
            threshold = p.thresholds(batch[2])
            changes, seen = p.drift.read(batch, threshold), p.drift.signals.reading
            p.segments.answered(batch, threshold)
            if began := p.drift.one_class.answered(batch[1], threshold, p.controls.thresholds):
                self.journal.note("one_class", began)
            span.set_attributes(seen.attributes())
            self._changed(changes)
            p.policy.answered(batch[1][~p.canary.answered(batch[2])])
            if seen.drifting:
                self._hold_share()
            self._enter(p.calm_state())

    def _changed(self, changes: list[str]) -> None:
        """A detector saw a change: let the challenger move in longer steps again."""
        if changes:
            self.journal.note("change", {"detectors": changes})
            self.parts.line.world_moved()

    def _hold_share(self) -> None:
        """While the world drifts and no label comes, hold the share of flags; nothing else."""
        p, s, controls = self.parts, self.parts.settings, self.parts.controls
        if not (s.prior_correction and p.package.binary and controls.thresholds.capacity is None):
            return
        if p.drift.unlabelled >= s.tuning.unlabelled_batches and not (
            controls.paused or controls.observing
        ):
            p.policy.hold_share(p.package.info.flagged_rate)

    def _enter(self, state: State) -> None:
        if state is State.DRIFTING and self.parts.shown.now is State.HEALTHY:
            self.parts.line.world_moved()
        self.parts.shown.become(Cause.SIGNALS, state)

    # -- labels ------------------------------------------------------------------------------

    def _learn(self, batch: LabelledBatch) -> None:
        """Test, then train: score on labels that nothing has trained on, then heal."""
        p = self.parts
        batch = replace(batch, context=p.line.challenger.context(batch.asked))
        challenger, counts = p.scoreboard.begin_batch(), p.scoreboard.counts
        facts = {names.ROWS: len(batch), names.BATCH: counts.labelled_batches}
        with self._telemetry.span(names.JOIN, facts, batch.traces):
            self._score(batch)
        if (self.healer.continuous or p.drift.wants_heal) and not p.controls.paused:
            self.healer.heal(p.drift.signals.reason, batch)
        else:
            self.healer.try_challenger(batch)
            p.buffer.extend(list(batch.rows), batch.hidden, batch.baseline)
        if advice := p.rollback.check(batch, p.thresholds, counts.labelled_batches):
            self.promoter.roll_back(advice, batch.traces)
        self.healer.watch_promoted(batch)
        told = batch.served, batch.labels, p.controls.thresholds
        p.policy.follow_labels(*told, batch.reviewed.weights)
        self.healer.advise_retrain()
        p.scoreboard.end_batch(challenger)
        self.journal.measure(measurement_of(p, scored=p.scoreboard.scored))

    def _score(self, batch: LabelledBatch) -> None:
        p, threshold = self.parts, self.parts.thresholds(batch.versions)
        p.history.measure_served(batch, p.thresholds)
        served = Scores.of(batch.served, batch.labels, threshold, batch.reviewed.weights)
        p.scoreboard.score(
            batch, served, batch.answers(p.line.challenger.answers),
            batch.answers(p.lineage.champion), p.controls.thresholds, threshold,
        )  # fmt: skip
        if served.rows:
            wrong = decide_classes(batch.served, threshold) != batch.labels
            self._changed(p.drift.labelled(batch, served.accuracy, wrong))
