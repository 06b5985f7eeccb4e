"""A heal: test, then train, round by round, with a snapshot before and one after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.records import Phase, Snapshot, State
from bento_selfheal.core.transitions import Cause
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.challenger.judge import SourceJudge
from bento_selfheal.healing.challenger.recipe_table import make_recipe
from bento_selfheal.healing.champion.promoter import Traces
from bento_selfheal.healing.champion.rollout import Rollout
from bento_selfheal.healing.evidence.gate import Trial, Verdict
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.healing.segments.watch import SegmentChange
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.scoring.losses import most_apart, row_losses
from bento_selfheal.scoring.scores import NOTHING
from bento_selfheal.telemetry import names

SEED_STRIDE = 1_000_003
"""From the seed of one heal to that of the next; a prime, so that no two rounds share one."""


class Healer:
    """Trains the challenger on labelled batches and lets the gate decide what is promoted.

    Args:
        rollout: Puts in service what the gate lets through.
        judge: Says which labels may be learned from.
        announce: Called when a heal begins, with the state to show.
    """

    def __init__(
        self, rollout: Rollout, judge: SourceJudge, announce: Callable[[State], None]
    ) -> None:
        promoter = rollout.promoter
        self._parts, self._journal = promoter.parts, promoter.journal
        self._telemetry = promoter.telemetry
        self._promoter, self._rollout = promoter, rollout
        self._judge = judge
        self._announce = announce
        self._recipe = make_recipe(self._parts.settings.tuning)
        self._promoted = False

    @property
    def continuous(self) -> bool:
        """Whether the challenger trains on every label, not only when a signal asks."""
        return self._parts.settings.gate == "evidence" and self._recipe.name != "article"

    def heal(self, reason: str, batch: LabelledBatch) -> None:
        """Train on a labelled batch, and on what is in the buffer.

        Args:
            reason: Why, for people.
            batch: Rows that nothing has trained on; it may be empty.
        """
        p = self._parts
        before, p.drift.heal_requested = p.shown.now, False
        p.shown.become(Cause.HEAL, State.HEALING)
        self._announce(p.shown.now)
        p.scoreboard.counts.heals += 1
        self._promoted = False
        number = p.scoreboard.counts.heals
        facts = {
            names.HEAL_NUMBER: number, names.REASON: reason, names.RECIPE: self._recipe.name,
            names.ROWS: len(p.buffer) + len(batch),
            names.BATCH: p.scoreboard.counts.labelled_batches,
        }  # fmt: skip
        with self._telemetry.span(names.HEAL, facts, batch.traces) as span:
            self._snapshot(Phase.PRE, number, reason, p.lineage.champion)
            try:
                version = self._train(number, reason, batch)
            except (SnapshotError, RuntimeError) as error:
                # torch raises RuntimeError where a loss saturates: such a challenger is no loss.
                self._refuse(number, batch, str(error))
                span.set_attribute(names.OUTCOME, "refused")
                p.shown.become(Cause.HEALED, before)
                return
            span.set_attributes({f"{names.LOSS}.{k}": v for k, v in p.line.losses.items()})
            outcome = "promoted" if self._promoted else "trained"
            span.set_attributes({names.VERSION: version, names.OUTCOME: outcome})
            detail = {"heal": number, "version": version, "reason": reason, "rows": len(p.buffer)}
            self._journal.note("heal", {**detail, "losses": p.line.losses})
        rolled_back = before is State.ROLLED_BACK
        p.shown.become(Cause.HEALED, before if rolled_back else p.calm_state())

    def advise_retrain(self) -> None:
        """Say when healing stays far from what is asked, or is worth nothing any more."""
        p = self._parts
        if p.controls.paused:
            return
        if why := p.scoreboard.advice.begins(promoted=p.scoreboard.counts.promotions > 0):
            rows = len(p.buffer) + len(p.batches.new_classes.rows)
            self._journal.note("retrain_needed", {"reason": why, "rows": rows})
            self._journal.outcome.export = True

    def _refuse(self, number: int, batch: LabelledBatch, reason: str) -> None:
        """Give up a challenger that cannot be trained or kept; its labels stay."""
        p = self._parts
        self._journal.note("refused", {"heal": number, "reason": reason})
        here = set(p.buffer.keys)
        p.buffer.extend([row for row in batch.rows if row.key not in here])
        p.line.restart()

    def _train(self, number: int, reason: str, batch: LabelledBatch) -> int:
        """The rounds of one heal; returns the version of its post-heal snapshot."""
        p = self._parts
        p.scoreboard.actions.append(f"heal {number}")
        p.line.begin_heal(len(batch), p.scoreboard.counts.predicted)
        replays = self.continuous and self._recipe.name == "replay"
        size = p.settings.tuning.heal_rows if replays else max(len(batch), 1)
        for at in range(0, max(len(batch), 1), size):
            self._round(batch.part(at, at + size), SEED_STRIDE * number + at)
        p.line.heal_ended(p.cursors.predictions)
        trial = p.line.trial = p.line.trial or Trial()
        known = p.history.snapshots.get(trial.version)
        if self._promoted and known is not None and known.heal == number:
            return trial.version
        post = self._snapshot(Phase.POST, number, reason, p.line.challenger.answers)
        trial.version, trial.fresh = post.version, True
        if p.settings.gate == "always":
            self._promote(trial, f"heal {number}: {reason}", {}, batch.traces)
        return post.version

    def _round(self, batch: LabelledBatch, seed: int) -> None:
        """Test on some rows, then train on them."""
        p = self._parts
        batch = self._judge.judge(batch)
        self.try_challenger(batch)
        p.buffer.extend(list(batch.rows), batch.hidden, batch.baseline)
        p.line.challenger.seen += len(batch)
        p.line.begin_round()
        generator = torch.Generator().manual_seed(p.settings.seed + seed)
        rows = p.buffer.rows()
        if not len(rows):
            raise SnapshotError("no labelled row is left to train on")
        losses = self._recipe.heal(p.line.challenger, rows, p.rules, generator)
        p.line.losses = losses or p.line.losses

    def try_challenger(self, batch: LabelledBatch) -> None:
        """Compare challenger and champion on labels that neither has trained on."""
        p, trial = self._parts, self._parts.line.trial
        p.segments.leave_out_of(p.line.challenger)
        if not len(batch) or p.settings.gate == "always":
            return
        if trial is None and not p.controls.paused:
            return
        champion = batch.answers(p.lineage.champion)
        challenger = batch.answers(p.line.challenger.answers)
        if trial is None or p.controls.paused:
            # The threshold follows the labels also while nothing heals.
            p.policy.labelled(champion, challenger, batch.labels, batch.reviewed.weights)
            return
        self._note_scores(trial, batch, champion, challenger)
        self._try_segments(batch)
        verdict = self._verdict(trial, batch, champion, challenger)
        if verdict.ended:
            trial.scores = NOTHING
            self._journal.note("undecided", {"version": trial.version, **verdict.evidence})
        if verdict.withheld and not trial.withheld:
            trial.withheld = True
            detail = {"version": trial.version, "reason": verdict.reason}
            self._journal.note("promotion_withheld", detail)
        if verdict.promote and not self._promoted:
            self._promote(trial, verdict.reason, verdict.evidence, batch.traces)

    def _try_segments(self, batch: LabelledBatch) -> None:
        """See which segments the challenger harms; it leaves them out from now on."""
        p = self._parts
        line, threshold = p.line, p.policy.point.threshold
        for change in p.segments.try_challenger(batch, line.challenger, threshold):
            self._note_segment(change)
        p.segments.leave_out_of(line.challenger)

    def watch_promoted(self, batch: LabelledBatch) -> None:
        """Count what was served to each segment, give back those that it made worse, and let a
        canary answer more or nothing."""
        p = self._parts
        p.segments.labelled(batch, p.thresholds)
        for change in p.segments.watch_served(batch, p.thresholds):
            self._note_segment(change)
        self._promoter.protect_segments(batch.traces)
        self._rollout.follow(batch)

    def _note_segment(self, change: SegmentChange) -> None:
        """Note that a segment is left out from now on, or no more."""
        kind = "segment_held_back" if change.left else "segment_released"
        self._journal.note(kind, {"segment": change.name, "reason": change.reason})

    def _note_scores(
        self,
        trial: Trial,
        batch: LabelledBatch,
        champion: NDArray[np.float32],
        challenger: NDArray[np.float32],
    ) -> None:
        """Keep what champion and challenger said before they trained on these rows."""
        p = self._parts
        scores = p.policy.score(challenger, batch.labels, batch.reviewed.weights)
        trial.scores += scores
        trial.first_label = trial.first_label or batch.rows[0].feedback_seq
        trial.last_label = batch.rows[-1].feedback_seq
        p.scoreboard.counts.challenger += scores
        if trial.fresh:
            p.history.measure(trial.version, scores)
        p.policy.labelled(champion, challenger, batch.labels, batch.reviewed.weights)

    def _verdict(
        self,
        trial: Trial,
        batch: LabelledBatch,
        champion: NDArray[np.float32],
        challenger: NDArray[np.float32],
    ) -> Verdict:
        """What the gate says, and what speaks against it: labels of one class, the ranking, or
        the floor of the reference set."""
        p, costs = self._parts, self._parts.controls.thresholds
        losses = row_losses(champion, batch.labels, costs)
        with self._telemetry.span(names.GATE, {names.VERSION: trial.version}) as span:
            gains = losses - row_losses(challenger, batch.labels, costs)
            rarity, reviewed = p.buffer.rows().rarity, batch.reviewed
            said = challenger, champion, batch.baseline
            p.line.ranking.add(*said, batch.labels, rarity, reviewed.weights)
            proves = reviewed.proves
            scale = None
            if reviewed.weights is not None:
                apart = most_apart(champion, challenger, costs)[proves]
                own = reviewed.weights[proves], reviewed.likeliest[proves]
                scale = p.line.gate.reach.scale(*own, apart)
            objection = p.one_sided.objection or p.segments.objection or p.canary.objection
            verdict = p.line.judge(gains[proves], rarity, scale, objection)
            span.set_attribute(names.OUTCOME, "promote" if verdict.promote else "wait")
            span.set_attribute(names.REASON, verdict.reason)
            span.set_attributes({f"{names.EVIDENCE}.{k}": v for k, v in verdict.evidence.items()})
        return verdict

    def _promote(
        self, trial: Trial, reason: str, evidence: Mapping[str, float], traces: Traces
    ) -> None:
        """Let the challenger serve; while observing, say that it would."""
        p, number = self._parts, self._parts.scoreboard.counts.heals
        if p.line.hear():  # what serves knows the rows of its time, and not those of the last heal
            trial.fresh = False
        p.line.newest.served()
        if not trial.fresh or trial.version not in p.history.snapshots:
            answers = p.line.challenger.answers
            snapshot = self._snapshot(Phase.POST, number, reason, answers)
            p.history.measure(snapshot.version, trial.scores)
            trial.version, trial.fresh = snapshot.version, True
        self._promoted = True
        p.line.trial = Trial(trial.version)
        p.line.gate.restart()
        if p.controls.observing:
            p.scoreboard.actions.append(f"would promote {trial.version}")
            detail = {"version": trial.version, "reason": reason}
            self._journal.note("would_promote", detail)
            return
        snapshot = p.history.snapshots[trial.version]
        self._rollout.promote(snapshot, trial, reason, evidence, traces)

    def _snapshot(self, phase: Phase, heal: int, reason: str, model: SelfHealingModel) -> Snapshot:
        p, serving = self._parts, self._parts.lineage.serving
        facts: dict[str, Any] = {"serving_version": p.lineage.serving_version}
        trained = p.history.unseen_from(serving) if serving else None
        seen = p.history.seen_by(serving)
        if phase is Phase.POST:
            losses = {k: round(v, 6) for k, v in p.line.losses.items()}
            facts = {"recipe": self._recipe.name, "trained_on_rows": len(p.buffer)}
            facts, trained, seen = {**facts, "losses": losses}, p.buffer.next_offset, p.seen()
        return p.history.save(
            phase,
            model,
            heal=heal,
            batch=p.scoreboard.counts.labelled_batches,
            reason=reason,
            facts=facts,
            seen=seen,
            trained=trained,
            same=serving if phase is Phase.PRE else None,
        )
