"""The mind of the runner: both logs in, signals, heals, promotions and rollbacks out.

It reads no clock for its decisions and draws no random number that is not seeded by the
number of the heal, so the same log gives the same heals, to the bit. It touches no store:
what it decides is collected in `Outcome` and written by its caller in one transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.records import (
    Event,
    FeedbackRecord,
    Horizon,
    OperatingPoint,
    Phase,
    PointKind,
    PredictionRecord,
    Promotion,
    PromotionKind,
    Snapshot,
    State,
)
from bento_selfheal.core.transitions import LINES, STATES, Cause, Line, Turn, follow, forward
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.challenger.anchor import Anchor, Basis
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.recipes import make_recipe
from bento_selfheal.healing.champion.operating_point import FEWEST, HISTORY, Calibration
from bento_selfheal.healing.champion.snapshots import History, SnapshotStore
from bento_selfheal.healing.drift.estimate import Estimate
from bento_selfheal.healing.drift.signals import Drift
from bento_selfheal.healing.evidence.gate import Gate, Regret, Trial
from bento_selfheal.healing.evidence.health import Alarm, Health, better
from bento_selfheal.healing.evidence.retrain import Limit
from bento_selfheal.healing.evidence.rule_record import RuleRecord
from bento_selfheal.healing.journal import Outcome
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.join import JoinedRow, Joiner
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.healing.labels.set_aside import SetAside
from bento_selfheal.healing.labels.sources import Sources
from bento_selfheal.healing.measurements import SECONDS, measurement_of
from bento_selfheal.healing.scoreboard import Scoreboard
from bento_selfheal.healing.status import status_of
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import cost_of, excess_losses, row_losses
from bento_selfheal.scoring.probabilities import probabilities_or_half
from bento_selfheal.scoring.scores import NOTHING, Scores, log_loss_gain
from bento_selfheal.telemetry import names as names
from bento_selfheal.telemetry.spans import Telemetry

SLOW_BATCHES = 2
SLOW_SECONDS = 1.0
"""By the log's own times: under thousands of requests a second two batches are no time, and heals
on ten labels each would take longer than the labels take to come."""
FEW_LABELS = 10
MOST_PACE = 20.0


class Pipeline:
    """Consumes both logs in their common order.

    Args:
        package: The packaged model; its clean adapter is the shadow.
        settings: How to watch and heal.
        snapshots: Where adapters are kept.
        thresholds: The rollback thresholds in force; replaced from outside when they change.
        telemetry: Where spans go.
        announce: Called when a heal begins, with the state to show.
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
        self.package = package
        self.settings = settings
        self.thresholds = thresholds
        self._telemetry = telemetry
        self._announce = announce
        self.rules = package.rules()
        self._recipe = make_recipe(settings)
        reference = package.reference_rows, package.reference_labels
        self.rule_record = RuleRecord(self.rules, *reference)
        self.drift = Drift(package, settings, self.rules)
        self.changed = ""
        width = len(package.info.features)
        self.start_from = 0
        self.predictions_from = 0
        self.feedback_from = 0
        self.commands_from = 0
        self.promotion_seq = 0
        self.paused = False
        self.told_to_observe = False
        self.measured_at = 0.0
        self.asked = False
        self.state = State.HEALTHY
        self.open_rows: NDArray[np.float32] = np.zeros((0, width), dtype=np.float32)
        self.open_answers = package.no_answers
        self.joiner = Joiner(settings.pending_labels)
        self.open_labels: list[JoinedRow] = []
        self.set_aside = SetAside(package)
        self.buffer = Buffer(settings.buffer_rows, width, package.embed)
        self.sources = Sources(settings.source_alpha, settings.source_quota)
        self.champion = package.model
        self.serving: Snapshot | None = None
        self.home: Snapshot | None = None
        self.home_model = package.model
        self._basis = Basis.of(package)
        self.challenger = self.new_challenger()
        self.trial: Trial | None = None
        self.gate = Gate(settings.gate_alpha, settings.trial_rows, settings.advance_rows)
        self.regret = Regret(settings.regret_alpha, settings.trial_rows)
        self.health = Health(settings.health_window)
        self.calibration = Calibration()
        self.operating = OperatingPoint()
        self.unlabelled = 0
        self.estimate = Estimate(package)
        self.opened_at = self.healed_at = 0
        self.now = self.opened_time = 0.0
        self.limit = Limit(package.info.accuracy - settings.retrain_drop, settings.retrain_batches)
        self.history = History(snapshots, settings.snapshots_kept, telemetry, self.note)
        self.scoreboard = Scoreboard()
        self.last: dict[str, Any] = {}
        self.delay: float | None = None
        self.losses: dict[str, float] = {}
        self.actions: list[str] = []
        self.promoted = False
        self.outcome = Outcome()

    @property
    def observing(self) -> bool:
        """Whether everything is done but the promotion."""
        return self.told_to_observe or self.settings.mode == "observe"

    # -- what comes in -----------------------------------------------------------------------

    def adopt(self, promotion: Promotion) -> None:
        """Serve what the promotion log says: at the start, and after an operator's command."""
        with self._telemetry.span(
            names.RELOAD, {names.VERSION: promotion.version}, [promotion.trace]
        ):
            model = self.history.load(promotion)
        snapshot = self.history.promoted(promotion)
        self.promotion_seq = promotion.seq
        left = self.serving
        self._serve(snapshot, model)
        self._settle(snapshot, model)
        if left is not None or promotion.kind is PromotionKind.ROLLBACK:
            point = self._point_of(snapshot, promotion.operating_point)
            self._operate(point, "another model serves")
        elif promotion.operating_point is not None:
            self.operating = promotion.operating_point
        if promotion.kind is PromotionKind.ROLLBACK:
            self.scoreboard.rollbacks += 1
            self._become(Cause.ROLLBACK, State.ROLLED_BACK)

    def resume_serving(self, snapshot: Snapshot, home: Snapshot | None) -> None:
        """Load again what a checkpoint says was serving; nothing serves when it is damaged."""
        model = self.history.load_known(snapshot)
        if model is None:
            return
        self.serving = self.home = snapshot
        self.champion = self.home_model = model
        if home is not None and home != snapshot:
            model = self.history.load_known(home)
            if model is not None:
                self.home, self.home_model = home, model

    def _settle(self, snapshot: Snapshot, model: SelfHealingModel) -> None:
        """A new line begins from what serves now, which is what it has to beat."""
        self.home, self.home_model = snapshot, model
        self.health.restart()
        self.regret.restart()
        self._restart_challenger()

    def fall_back(self, promotions: list[Promotion], newest: int) -> None:
        """Serve the newest promotion that verifies, when what should serve does not.

        Args:
            promotions: Those of snapshots that are kept, oldest first.
            newest: Place of its end, behind which the rollback is written.

        Raises:
            SnapshotError: Nothing in the log verifies.
        """
        for promotion in reversed(promotions):
            try:
                self.adopt(replace(promotion, kind=PromotionKind.ROLLBACK, seq=newest))
            except SnapshotError as error:
                self.note("refused", {"version": promotion.version, "reason": str(error)})
                continue
            why = "what should serve is damaged"
            snapshot = self.history.snapshots[promotion.version]
            self._promote(PromotionKind.ROLLBACK, snapshot, why, {}, self.operating)
            self.note("rollback", {"version": promotion.version, "reason": why})
            return
        raise SnapshotError("no promotion in the log verifies")

    def take(
        self,
        entry: PredictionRecord | FeedbackRecord,
        asked: PredictionRecord | None = None,
        horizon: Horizon | None = None,
    ) -> None:
        """Take the next entry of the logs; for a label, ``asked`` is its logged prediction, and
        ``horizon`` says what the log has no more."""
        self.now = entry.time
        if isinstance(entry, PredictionRecord):
            self.predictions_from = forward("predictions", self.predictions_from, entry.seq)
            self._watch(entry)
            rows = self.joiner.prediction(entry)
        else:
            self.feedback_from = forward("feedback", self.feedback_from, entry.seq)
            if asked is not None and asked.seq <= self.start_from:
                self.joiner.unmatched += 1  # of a package that serves no longer
                return
            rows = self.joiner.label(entry, asked, horizon)
        for row in rows:
            self._learn_label(row)

    def heal_now(self, by: str = "operator") -> bool:
        """Heal at once on the labels that are there; False when there are none."""
        if not len(self.buffer):
            self.note("heal_skipped", {"reason": "no labelled rows yet", "by": by})
            return False
        self.note("heal_asked", {"by": by})
        self._heal("asked for by an operator", [])
        return True

    def apply_command(self, word: str, by: str = "operator") -> None:
        """Follow an operator: ``pause`` all healing, ``observe`` and promote nothing, ``resume``.

        What the settings hold back stays held back.
        """
        self.paused = word == "pause"
        self.told_to_observe = word == "observe"
        self.note(word, {"by": by})

    def forget(self, source: str, reason: str, by: str = "runner") -> int:
        """Learn from a source no more, drop its rows, and begin a new line without them."""
        self.sources.refuse(source, reason)
        gone = self.buffer.forget(source)
        self.open_labels = [row for row in self.open_labels if row.source != source]
        self.note("quarantine", {"source": source, "reason": reason, "rows": gone, "by": by})
        if gone:
            self._restart_challenger(self.home_model)
        return gone

    def collect(self) -> Outcome:
        """Hand over what was decided, once."""
        done, self.outcome = self.outcome, Outcome()
        return replace(done, snapshots=self.history.collect())

    def surplus(self) -> list[Snapshot]:
        """Snapshots over the bound, forgotten here; serving, home and trial stay."""
        needed = {one.version for one in (self.serving, self.home, self.trial) if one is not None}
        return self.history.surplus(needed)

    # -- signals -----------------------------------------------------------------------------

    def _watch(self, entry: PredictionRecord) -> None:
        self.scoreboard.predicted += len(entry.probabilities)
        self.open_rows = np.concatenate([self.open_rows, entry.features])
        self.open_answers = np.concatenate([self.open_answers, entry.probabilities])
        size = self.settings.batch_size
        while len(self.open_rows) >= size:
            self._read_signals(self.open_rows[:size], self.open_answers[:size])
            self.open_rows, self.open_answers = self.open_rows[size:], self.open_answers[size:]
            self._measure()

    def _measure(self) -> None:
        """Keep the signals for charts, at a pace that no load can raise."""
        now = time.time()
        if abs(now - self.measured_at) >= SECONDS:
            self.measured_at = now
            self.outcome.measurements.append(measurement_of(self, scored=False))

    def _read_signals(self, rows: NDArray[np.float32], answers: NDArray[np.float32]) -> None:
        self.scoreboard.batches += 1
        with self._telemetry.span(names.SIGNAL, {names.BATCH: self.scoreboard.batches}) as span:
            seen, reading = self.drift.rows(rows, answers), self.drift.reading
            span.set_attributes(
                {
                    names.Z: reading.z,
                    names.CONFLICTS: reading.conflicts,
                    names.DRIFTING: reading.drifting,
                }
            )
            self._changed(seen)
            self.asked = self.asked or reading.drifting
            self.unlabelled += 1
            self.calibration.answered(answers if answers.ndim == 1 else answers[:0, 0])
            self.estimate.answered(answers, self.operating.threshold)
            self._correct_prior()
            self._enter(self._calm_state())

    def _changed(self, seen: list[str]) -> None:
        """A detector saw a change: heal, and let the challenger move in longer steps again."""
        if seen:
            self.changed = ", ".join(seen)
            self.note("change", {"detectors": seen})
            self.asked = True
            self.challenger.rounds = 0

    def _correct_prior(self) -> None:
        """While the world drifts and no label comes, hold the share of flags; nothing else."""
        s = self.settings
        if not (s.prior_correction and self.package.binary and self.thresholds.capacity is None):
            return
        asked = self.drift.reading.drifting and self.unlabelled >= s.unlabelled_batches
        if asked and not (self.paused or self.observing):
            share = self.package.info.flagged_rate
            self._operate(self.calibration.share(share, PointKind.UNVERIFIED), "no label comes")

    def _operate(self, point: OperatingPoint, reason: str) -> None:
        """Put an operating point in force."""
        if point.kind is not self.operating.kind:
            self.note("operating_point", {**point.as_dict(), "reason": reason})
        self.operating = point

    def _point_of(
        self, snapshot: Snapshot, promoted_with: OperatingPoint | None = None
    ) -> OperatingPoint:
        """The operating point of the model that serves now, in place of that of the one before.

        It rests on the newest labels that this model was not trained on; where there are too few,
        it is the one that it was promoted with, or the one that the costs alone ask for.
        """
        if not self.package.binary:
            return OperatingPoint()
        rows = self._unseen_by(snapshot)
        said = [
            probabilities_or_half(model, rows.features) if len(rows) else rows.labels
            for model in (self.champion, self.challenger.answers)
        ]
        self.calibration.rescored(*said, rows.labels)
        known = promoted_with is not None and promoted_with.kind is not PointKind.UNVERIFIED
        if known and promoted_with is not None and len(rows) < FEWEST:
            return promoted_with
        return self.calibration.point(self.thresholds)

    def _unseen_by(self, snapshot: Snapshot) -> LabelledRows:
        """The newest labelled rows that a snapshot was not trained on."""
        first = self.history.unseen_from(snapshot)
        # Without a gate no label is kept apart from training, and the costs alone decide.
        if first is None or self.settings.gate == "always":
            first = self.buffer.next_place
        return self.buffer.since(first).tail(HISTORY)

    def _calm_state(self) -> State:
        """The state that the signals alone call for."""
        if self.limit.retrain:
            return State.RETRAIN_NEEDED
        return State.HEALTHY if self.drift.calm else State.DRIFTING

    def _enter(self, state: State) -> None:
        if state is State.DRIFTING and self.state is State.HEALTHY:
            self.note("drifting", {"reason": self.drift.reason})
            self.challenger.rounds = 0  # the world moved: so may the challenger, in longer steps
        self._become(Cause.SIGNALS, state)

    def _become(self, cause: Cause, state: State) -> None:
        self.state = follow(STATES, self.state, cause, state)

    # -- labels ------------------------------------------------------------------------------

    def _learn_label(self, row: JoinedRow) -> None:
        if row.corrects:
            self._learn_correction(row)
            return
        self.scoreboard.joined += 1
        self.unlabelled = 0
        if not self.sources.admits(row.source):
            self.scoreboard.refused += 1
            return
        if not self.open_labels:
            self.opened_at, self.opened_time = self.scoreboard.predicted, self.now
        self.open_labels.append(row)
        if self._batch_is_due():
            self._set_aside()
        if self._batch_is_due():
            batch, self.open_labels = self.open_labels, []
            self._labelled_batch(batch)

    def _set_aside(self) -> None:
        """Take the rows on which the model raises out of the open batch; an event names each."""
        before = bool(self.set_aside.trouble)
        self.open_labels, details = self.set_aside.sort(self.open_labels)
        for detail in details:
            self.note("row_set_aside", detail)
        if self.set_aside.trouble and not before:
            self.note("rows_set_aside", {"reason": self.set_aside.trouble})

    def _learn_correction(self, row: JoinedRow) -> None:
        """Replace a label by that of another source, which answers for it from now on."""
        if not self.sources.admits(row.source):
            self.scoreboard.refused += 1
            return
        if row.key in self.buffer.keys:
            self._judge_correction(row)
            if self._refused(row):
                self.scoreboard.refused += 1
                return
        self.scoreboard.corrected += 1
        if self.buffer.correct(row.key, row.label, row.source):
            return
        # One that is not trained on yet is judged with its batch.
        for i, waiting in enumerate(self.open_labels):
            if waiting.key == row.key:
                self.open_labels[i] = replace(waiting, label=row.label, source=row.source)

    def _judge_correction(self, row: JoinedRow) -> None:
        """Judge who corrects a row that was trained on, by what both models find surprising.

        What was served may be of before a drift, and the challenger has trained on the label that
        is corrected; so the one that contradicts the correction less is heard.
        """
        if row.source is None or self.paused:
            return
        features = row.features[None].astype(np.float32)
        models = (self._served([row], features), self._challenges(features))
        label = np.asarray([row.label], dtype=np.float32)
        excess = [excess_losses(answers, label, self.thresholds) for answers in models]
        self._quarantine(self.sources.judge([row.source], np.minimum(*excess)))

    def _challenges(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the challenger says of rows ``(n, features)``."""
        return probabilities_or_half(self.challenger.answers, features)

    def _quarantine(self, refused: list[tuple[str, str]]) -> None:
        for source, reason in refused:
            self.forget(source, reason)

    def _batch_is_due(self) -> bool:
        """A batch of labels is full; or long in coming, and then a few are enough."""
        s, n = self.settings, len(self.open_labels)
        slow = self.scoreboard.predicted - self.opened_at >= SLOW_BATCHES * s.batch_size
        slow = slow and abs(self.now - self.opened_time) >= SLOW_SECONDS  # clocks are set back
        return n >= s.batch_size or (slow and n >= min(FEW_LABELS, s.batch_size))

    def _labelled_batch(self, batch: list[JoinedRow]) -> None:
        """Test, then train: score on labels that nothing has trained on, then heal."""
        self.scoreboard.labelled_batches += 1
        self.actions = []
        challenger = self.scoreboard.challenger
        rows = np.stack([row.features for row in batch]).astype(np.float32)
        labels = np.asarray([row.label for row in batch], dtype=np.float32)
        served = self._served(batch, rows)
        with self._telemetry.span(
            names.JOIN,
            {names.ROWS: len(batch), names.BATCH: self.scoreboard.labelled_batches},
            _traces(batch),
        ):
            self._score(batch, rows, labels, served)
        asked = self.continuous or self.asked or self.drift.seen
        if asked and not self.paused:
            self._heal(self.drift.reason, batch)
        else:
            self._try_challenger(batch)
            self.buffer.extend(batch)
        self._check_health(batch, labels, served)
        self._check_operating(served, labels)
        self._check_limit()
        self.last["action"] = ", ".join(self.actions)
        tried = self.scoreboard.challenger - challenger
        self.last["challenger"] = tried.as_dict() if tried.rows else None
        self.outcome.measurements.append(measurement_of(self, scored=True))

    def _served(self, batch: list[JoinedRow], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What was answered; where a row was never asked, what the champion says now."""
        now = probabilities_or_half(self.champion, rows).tolist()
        return np.asarray(
            [p if row.probability is None else row.probability
             for row, p in zip(batch, now, strict=True)],
            dtype=np.float32,
        )  # fmt: skip

    def _losses(
        self, answers: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """What gate and regret compare."""
        return row_losses(answers, labels, self.thresholds)

    def _score(
        self,
        batch: list[JoinedRow],
        rows: NDArray[np.float32],
        labels: NDArray[np.float32],
        served: NDArray[np.float32],
    ) -> None:
        versions = np.asarray([row.version or 0 for row in batch])
        for version in sorted({int(v) for v in versions} & self.history.snapshots.keys()):
            own = versions == version
            self.history.measure(version, self._scores(served[own], labels[own]))
        champion = self._scores(served, labels)
        frozen = self.package.shadow(rows)
        shadow = Scores.of(frozen, labels)
        self.scoreboard.champion += champion
        self.scoreboard.shadow += shadow
        lift = champion.accuracy - shadow.accuracy
        self.limit.labelled(lift, self._reach(rows, labels))
        delays = [row.delay for row in batch if row.delay is not None]
        self.delay = float(np.mean(delays)) if delays else None
        self.rule_record.update(rows, labels)
        wrong = decide_classes(served, self.operating.threshold) != labels
        self._changed(self.drift.errors(champion.accuracy, wrong))
        self.estimate.checked(champion.accuracy)
        self.scoreboard.log_loss_gain += log_loss_gain(served, frozen, labels)
        costs = self.thresholds
        self.last = {
            "batch": self.scoreboard.labelled_batches,
            "champion": champion.as_dict(),
            "shadow": shadow.as_dict(),
            "lift": lift,
            "cost": {"champion": cost_of(champion, costs), "shadow": cost_of(shadow, costs)},
        }

    def _reach(self, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
        """Accuracy of the better of challenger and champion on rows that neither has seen."""
        models = (self.challenger.answers, self.champion)
        return max(Scores.of(probabilities_or_half(m, rows), labels).accuracy for m in models)

    def _scores(self, answers: NDArray[np.float32], labels: NDArray[np.float32]) -> Scores:
        return Scores.of(answers, labels, self.operating.threshold)

    def _check_operating(self, served: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Let the threshold follow costs and capacity; end what no label had verified."""
        if not self.package.binary:
            return
        if self.operating.kind is PointKind.UNVERIFIED:
            corrected, plain = self._scores(served, labels), Scores.of(served, labels)
            if corrected.accuracy >= plain.accuracy:
                return
            self._operate(
                OperatingPoint(),
                f"labels disagree: accuracy {corrected.accuracy:.3f} against {plain.accuracy:.3f}",
            )
        self._operate(self.calibration.point(self.thresholds), "labels came")

    def _check_limit(self) -> None:
        """Say when healing stays far from what is asked, or is worth nothing any more."""
        if self.paused:
            return
        before = self.limit.retrain
        why = self.limit.update(promoted=self.scoreboard.promotions > 0)
        if why and not before:
            self.note("retrain_needed", {"reason": why, "rows": len(self.buffer)})
            self.outcome.export = True

    # -- health and rollback -------------------------------------------------------------------

    def _check_health(
        self, batch: list[JoinedRow], labels: NDArray[np.float32], served: NDArray[np.float32]
    ) -> bool:
        """Watch what was promoted, on rows that it answered itself; True after a rollback."""
        if self.settings.gate == "evidence" and self.settings.health == "evidence":
            return self._check_regret(batch, labels, served)
        serving = self.serving
        if serving is None or serving.phase is Phase.CLEAN:
            return False
        own = np.asarray([self._watched(row.version) for row in batch])
        if own.sum() * 2 < len(batch):
            return False
        scores = self._scores(served[own], labels[own])
        self.health.begin(scores.accuracy, scores.f1)
        alarm = self.health.update(scores.accuracy, scores.f1, self.thresholds)
        if alarm is None or self.paused:
            return False
        if self.observing:
            self.note("would_roll_back", {"version": serving.version, "reason": alarm.reason})
            self.health.restart(keep_baseline=True)
            return False
        if self.settings.gate == "always":
            target = self.history.best(other_than=serving.version)
        else:
            target = self._better_snapshot(serving.version, alarm)
        if target is None:
            self.note(
                "rollback_withheld", {"reason": f"{alarm.reason}, but nothing kept does better"}
            )
            self.health.restart(keep_baseline=True)
            return False
        return self._roll_back(serving.version, target, alarm.reason, batch)

    def _check_regret(
        self, batch: list[JoinedRow], labels: NDArray[np.float32], served: NDArray[np.float32]
    ) -> bool:
        """What the line answered against what its home would have; True after a rollback."""
        home, serving = self.home, self.serving
        if home is None or serving is None or serving.version == home.version:
            return False
        own = np.asarray([(row.version or 0) > home.version for row in batch])
        if not own.any():
            return False
        rows = np.stack([row.features for row in batch]).astype(np.float32)[own]
        before = self._losses(probabilities_or_half(self.home_model, rows), labels[own])
        why = self.regret.update(self._losses(served[own], labels[own]) - before)
        if not why or self.paused:
            return False
        self.regret.restart()
        if self.observing:
            self.note("would_roll_back", {"version": serving.version, "reason": why})
            return False
        return self._roll_back(serving.version, home, why, batch)

    def _better_snapshot(self, serving: int, alarm: Alarm) -> Snapshot | None:
        """The snapshot that does best, in what fell, on the very rows on which it fell.

        Only ones trained before those rows count: a stream that got harder is no reason to undo
        a heal.
        """
        batches = len(self.health.recent)
        rows = self.buffer.rows().tail(batches * self.settings.batch_size)
        if not len(rows):
            return None
        before = self.scoreboard.labelled_batches - batches
        kept = self.history.compare(self.history.before(before, other_than=serving), rows)
        now = Scores.of(probabilities_or_half(self.champion, rows.features), rows.labels)
        return better(kept, now, alarm, self.thresholds)

    def _watched(self, version: int | None) -> bool:
        """Whether health looks at a row of this version: one of the line that serves.

        Without a gate a version serves for one batch only, so there health looks at all of
        them together, as the article does.
        """
        if self.settings.gate == "always":
            found = self.history.snapshots.get(version or 0)
            return found is not None and found.phase is Phase.POST
        if self.home is None or self.serving is None or version is None:
            return False
        return version == self.serving.version or version > self.home.version

    def _roll_back(self, left: int, target: Snapshot, why: str, batch: list[JoinedRow]) -> bool:
        with self._telemetry.span(
            names.ROLLBACK, {names.VERSION: target.version, names.REASON: why}, _traces(batch)
        ):
            model = self.history.load_known(target)
            if model is None:
                return False
            self._serve(target, model)
            point = self._point_of(target)
            self._promote(PromotionKind.ROLLBACK, target, why, {"from_version": left}, point)
            self.note("rollback", {"version": target.version, "from": left, "reason": why})
            self._operate(point, "another model serves")
        self.scoreboard.rollbacks += 1
        self.actions.append(f"rollback to {target.version}")
        self.health.restart(keep_baseline=self.settings.gate == "always")
        if self.settings.gate == "always" or self.settings.health == "article":
            self.home, self.home_model = target, self.champion
            self._restart_challenger()
        self._become(Cause.ROLLBACK, State.ROLLED_BACK)
        return True

    # -- gate and promotion ----------------------------------------------------------------------

    def _try_challenger(self, rows: list[JoinedRow]) -> None:
        """Compare challenger and champion on labels that neither has trained on."""
        trial = self.trial
        if (trial is None and not self.paused) or not rows or self.settings.gate == "always":
            return
        features = np.stack([row.features for row in rows]).astype(np.float32)
        labels = np.asarray([row.label for row in rows], dtype=np.float32)
        champion = probabilities_or_half(self.champion, features)
        answers = probabilities_or_half(self.challenger.answers, features)
        if trial is None or self.paused:
            if self.package.binary:  # the threshold follows the labels also while nothing heals
                self.calibration.labelled(champion, answers, labels)
            return
        self._note_scores(trial, rows, champion, answers, labels)
        losses = self._losses(champion, labels)
        with self._telemetry.span(names.GATE, {names.VERSION: trial.version}) as span:
            gains, before = losses - self._losses(answers, labels), self.line
            verdict = self.gate.update(gains, self.buffer.rows().rarest, self.challenger.pace)
            follow(LINES, before, Turn.JUDGE, self.line)
            if verdict.promote and (refused := self._below_floor()):
                verdict = replace(verdict, promote=False, reason=refused)
            span.set_attribute(names.OUTCOME, "promote" if verdict.promote else "wait")
            span.set_attribute(names.REASON, verdict.reason)
            span.set_attributes({f"{names.EVIDENCE}.{k}": v for k, v in verdict.evidence.items()})
        if verdict.ended:
            trial.scores = NOTHING
            self.note("undecided", {"version": trial.version, **verdict.evidence})
        if verdict.promote and not self.promoted:
            self._promote_trial(trial, verdict.reason, verdict.evidence, _traces(rows))

    def _note_scores(
        self,
        trial: Trial,
        rows: list[JoinedRow],
        champion: NDArray[np.float32],
        answers: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> None:
        """Keep what champion and challenger said before they trained on these rows."""
        scores = self._scores(answers, labels)
        trial.scores += scores
        trial.first_label = trial.first_label or rows[0].feedback_seq
        trial.last_label = rows[-1].feedback_seq
        self.scoreboard.challenger += scores
        if trial.fresh:
            self.history.measure(trial.version, scores)
        if self.package.binary:
            self.calibration.labelled(champion, answers, labels)

    def _below_floor(self) -> str:
        """Why the challenger may not serve at all; empty when it may."""
        package, floor = self.package, self.settings.reference_floor
        answers = probabilities_or_half(self.challenger.answers, package.reference_rows)
        accuracy = Scores.of(answers, package.reference_labels).accuracy
        if accuracy >= floor:
            return ""
        return f"accuracy {accuracy:.3f} on the reference set is under the floor of {floor}"

    def _promote_trial(
        self,
        trial: Trial,
        reason: str,
        evidence: Mapping[str, float],
        links: list[str | None],
    ) -> None:
        number = self.scoreboard.heals
        if not trial.fresh or trial.version not in self.history.snapshots:
            snapshot = self._snapshot(Phase.POST, number, reason, self.challenger.answers)
            self.history.measure(snapshot.version, trial.scores)
            trial.version, trial.fresh = snapshot.version, True
        self.promoted = True
        self.trial = Trial(trial.version)
        self.gate.restart()
        if self.observing:
            self.actions.append(f"would promote {trial.version}")
            self.note("would_promote", {"version": trial.version, "reason": reason})
            return
        snapshot = self.history.snapshots[trial.version]
        labels = {"first_label": trial.first_label, "last_label": trial.last_label}
        with self._telemetry.span(
            names.PROMOTE, {names.VERSION: snapshot.version, names.REASON: reason}, links
        ):
            unverified = self.operating.kind is PointKind.UNVERIFIED
            point = OperatingPoint() if unverified else self.operating
            self._promote(PromotionKind.PROMOTE, snapshot, reason, {**evidence, **labels}, point)
            self.note("promote", {"version": snapshot.version, "reason": reason, **evidence})
        self.scoreboard.promotions += 1
        self.actions.append(f"promote {snapshot.version}")
        leaves_home = self.serving == self.home
        model = self.challenger.answers
        self._serve(snapshot, model.with_adapter(model.adapter_state()))
        self.calibration.promoted()
        self._operate(point, "a healed model serves")
        if self.settings.gate == "evidence" and leaves_home:
            self.health.restart()
            proven = self.history.measured[snapshot.version]
            self.health.begin(proven.accuracy, proven.f1)

    def _promote(
        self,
        kind: PromotionKind,
        snapshot: Snapshot,
        reason: str,
        evidence: dict[str, Any],
        point: OperatingPoint,
    ) -> None:
        self.outcome.promotions.append(
            Promotion(
                kind, snapshot.version, snapshot.tag, snapshot.sha256, reason, time.time(),
                evidence={**evidence, "thresholds": self.thresholds.model_dump()},
                trace=self._telemetry.traceparent(), operating_point=point,
            )
        )  # fmt: skip

    def _serve(self, snapshot: Snapshot, model: SelfHealingModel) -> None:
        self.serving = snapshot
        self.champion = model.requires_grad_(False)
        self.gate.restart()

    # -- heal ------------------------------------------------------------------------------------

    @property
    def continuous(self) -> bool:
        """Whether the challenger trains on every label, not only when a signal asks."""
        return self.settings.gate == "evidence" and self._recipe.name != "article"

    def _heal(self, reason: str, batch: list[JoinedRow]) -> None:
        """Test, then train, round by round, with a snapshot before and one after."""
        before, self.asked = self.state, False
        self._become(Cause.HEAL, State.HEALING)
        self._announce(self.state)
        self.scoreboard.heals += 1
        self.promoted = False
        number = self.scoreboard.heals
        with self._telemetry.span(
            names.HEAL,
            {names.HEAL_NUMBER: number, names.REASON: reason, names.RECIPE: self._recipe.name,
             names.ROWS: len(self.buffer) + len(batch),
             names.BATCH: self.scoreboard.labelled_batches},
            _traces(batch),
        ) as span:  # fmt: skip
            self._snapshot(Phase.PRE, number, reason, self.champion)
            try:
                version = self._train(number, reason, batch)
            except (SnapshotError, RuntimeError) as error:
                # torch raises RuntimeError where a loss saturates: such a challenger is no loss.
                self.note("refused", {"heal": number, "reason": str(error)})
                here = set(self.buffer.keys)
                self.buffer.extend([row for row in batch if row.key not in here])
                self._restart_challenger()
                span.set_attribute(names.OUTCOME, "refused")
                self._become(Cause.HEALED, before)
                return
            span.set_attributes({f"{names.LOSS}.{k}": v for k, v in self.losses.items()})
            outcome = "promoted" if self.promoted else "trained"
            span.set_attributes({names.VERSION: version, names.OUTCOME: outcome})
            self.note(
                "heal",
                {"heal": number, "version": version, "reason": reason, "rows": len(self.buffer),
                 "losses": self.losses},
            )  # fmt: skip
        rolled_back = before is State.ROLLED_BACK
        self._become(Cause.HEALED, before if rolled_back else self._calm_state())

    def _train(self, number: int, reason: str, batch: list[JoinedRow]) -> int:
        """The rounds of one heal; returns the version of its post-heal snapshot."""
        self.actions.append(f"heal {number}")
        self._set_pace(len(batch))
        size = self.settings.heal_rows if self.continuous else max(len(batch), 1)
        for at in range(0, max(len(batch), 1), size):
            rows = batch[at : at + size]
            self._judge_sources(rows)
            rows = [row for row in rows if not self._refused(row)]
            self._try_challenger(rows)
            self.buffer.extend(rows)
            self.challenger.seen += len(rows)
            line, self.trial = self.line, self.trial or Trial()
            follow(LINES, line, Turn.TRAIN, self.line)
            self.trial.fresh = False
            seed = torch.Generator().manual_seed(self.settings.seed + 1_000_003 * number + at)
            rows_kept = self.buffer.rows()
            if not len(rows_kept):
                raise SnapshotError("no labelled row is left to train on")
            self.losses = self._recipe.heal(self.challenger, rows_kept, self.rules, seed)
        trial = self.trial = self.trial or Trial()
        known = self.history.snapshots.get(trial.version)
        if self.promoted and known is not None and known.heal == number:
            return trial.version
        post = self._snapshot(Phase.POST, number, reason, self.challenger.answers)
        trial.version, trial.fresh = post.version, True
        if self.settings.gate == "always":
            self._promote_trial(trial, f"heal {number}: {reason}", {}, _traces(batch))
        return post.version

    def _set_pace(self, labels: int) -> None:
        """Rows answered since the last heal for each of its labels, from 1 to 20."""
        answered, self.healed_at = (
            self.scoreboard.predicted - self.healed_at,
            self.scoreboard.predicted,
        )
        self.challenger.pace = min(max(answered / max(labels, 1), 1.0), MOST_PACE)

    def _judge_sources(self, rows: list[JoinedRow]) -> None:
        """Quarantine sources whose labels contradict the others'."""
        if not any(row.source for row in rows) or self.paused:
            return
        features = np.stack([row.features for row in rows]).astype(np.float32)
        labels = np.asarray([row.label for row in rows], dtype=np.float32)
        answers = probabilities_or_half(self.challenger.answers, features)
        excess = excess_losses(answers, labels, self.thresholds)
        self._quarantine(self.sources.judge([row.source for row in rows], excess))

    def _refused(self, row: JoinedRow) -> bool:
        found = self.sources.known.get(row.source or "")
        return found is not None and bool(found.quarantined)

    def _snapshot(self, phase: Phase, heal: int, reason: str, model: SelfHealingModel) -> Snapshot:
        facts: dict[str, Any] = {"serving_version": self.serving.version if self.serving else 0}
        if phase is Phase.POST:
            facts = {
                "recipe": self._recipe.name,
                "trained_on_rows": len(self.buffer),
                "losses": {k: round(v, 6) for k, v in self.losses.items()},
            }
        return self.history.save(
            phase,
            model,
            heal=heal,
            batch=self.scoreboard.labelled_batches,
            reason=reason,
            facts=facts,
            trained=self._trained_to(phase),
        )

    def _trained_to(self, phase: Phase) -> int | None:
        """Place of the first label that a snapshot of now is not trained on."""
        if phase is Phase.POST:
            return self.buffer.next_place
        return self.history.unseen_from(self.serving) if self.serving else None

    def _restart_challenger(self, start: SelfHealingModel | None = None) -> None:
        line = self.line
        self.challenger = self.new_challenger(start)
        self.trial = None
        self.gate.renew()
        follow(LINES, line, Turn.RESTART, self.line)

    @property
    def line(self) -> Line:
        """Where the line of challengers stands."""
        if self.trial is None:
            return Line.NEW
        return Line.PROVEN if self.gate.proven else Line.ON_TRIAL

    def new_challenger(self, start: SelfHealingModel | None = None) -> Challenger:
        """A line that begins from a model, or from what serves."""
        s = self.settings
        self.anchor = Anchor(self._basis, s.anchor_ridge)
        return Challenger(start or self.champion, s.heal_lr, self.package.model, self.anchor)

    # -- what it shows of itself -----------------------------------------------------------------

    def note(self, kind: str, detail: dict[str, Any]) -> None:
        """Note an event for people."""
        self.outcome.events.append(
            Event(kind, detail, time.time(), self.scoreboard.labelled_batches)
        )
        self.outcome.traces.append(self._telemetry.traceparent())

    def status(self) -> dict[str, Any]:
        """Everything that a page, a metric or an operator wants to know, as JSON values."""
        return status_of(self)


def _traces(batch: list[JoinedRow]) -> list[str | None]:
    """The distinct requests that brought a batch's labels, the newest of them."""
    return list(dict.fromkeys(row.trace for row in batch))[-names.MAX_LINKS :]
