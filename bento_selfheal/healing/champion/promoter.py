"""Changes what serves, and nothing else does: promotions and rollbacks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bento_selfheal.core.records import (
    OperatingPoint,
    Phase,
    Promotion,
    PromotionKind,
    Snapshot,
    State,
)
from bento_selfheal.core.transitions import Cause
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.champion.operating_point import HISTORY
from bento_selfheal.healing.champion.rollback import RollbackAdvice
from bento_selfheal.healing.evidence.gate import Trial
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.healing.parts import Parts
from bento_selfheal.scoring.probabilities import probabilities_or_half
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.spans import Telemetry

Traces = Sequence[str | None]
REFRESHED = "the same weights, told what the newest rows are like"
DAMAGED = "what should serve is damaged"


@dataclass(frozen=True)
class Promoter:
    """Puts a snapshot in service, with the operating point that belongs to it.

    Args:
        parts: What changes with it.
        journal: Where promotions and events are noted.
        telemetry: Where spans go.
    """

    parts: Parts
    journal: Journal
    telemetry: Telemetry

    def adopt(self, promotion: Promotion, *, keep_line: bool = False) -> None:
        """Serve what the promotion log says: at the start, and after an operator's command.

        Args:
            promotion: The newest one.
            keep_line: Whether the line trains on; it has to prove itself again in any case.

        Raises:
            SnapshotError: Its snapshot does not verify.
        """
        p = self.parts
        with self.telemetry.span(
            names.RELOAD, {names.VERSION: promotion.version}, [promotion.trace]
        ):
            model = p.history.load(promotion)
        snapshot = p.history.promoted(promotion)
        p.cursors.promotions = promotion.seq
        other = p.lineage.serving is not None or promotion.kind is PromotionKind.ROLLBACK
        p.canary.end()
        p.lineage.serve(snapshot, model)
        p.lineage.begin_line()
        p.rollback.restart()
        p.segments.guard.begin_line()
        if keep_line:
            p.line.stand_alone()
        else:
            p.line.restart()
        if other:
            point = self.point_of(snapshot, promotion.operating_point)
            p.policy.put(point, "another model serves")
        elif promotion.operating_point is not None:
            p.policy.point = promotion.operating_point
        if promotion.kind is PromotionKind.ROLLBACK:
            p.scoreboard.counts.rollbacks += 1
            p.shown.become(Cause.ROLLBACK, State.ROLLED_BACK)

    def fall_back(self, promotions: Sequence[Promotion], newest: int) -> None:
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
                detail = {"version": promotion.version, "reason": str(error)}
                self.journal.note("refused", detail)
                continue
            snapshot = self.parts.history.snapshots[promotion.version]
            point = self.parts.policy.point
            self.write(PromotionKind.ROLLBACK, snapshot, DAMAGED, {}, point)
            self.journal.note("rollback", {"version": promotion.version, "reason": DAMAGED})
            return
        raise SnapshotError("no promotion in the log verifies")

    def promote(
        self,
        snapshot: Snapshot,
        trial: Trial,
        reason: str,
        evidence: Mapping[str, Any],
        traces: Traces,
    ) -> None:
        """Let the challenger serve, whose snapshot this is.

        Args:
            snapshot: The snapshot.
            trial: The labels that the evidence rests on.
            reason: Why, for people.
            evidence: The gate's figures.
            traces: The requests that brought those labels.
        """
        p = self.parts
        evidence = {**evidence, **p.segments.evidence()}
        point = p.policy.point_to_promote(p.controls.thresholds)
        labels = {"first_label": trial.first_label, "last_label": trial.last_label}
        self.write_promotion(snapshot, reason, evidence, point, traces, labels)
        p.scoreboard.counts.promotions += 1
        p.scoreboard.actions.append(f"promote {snapshot.version}")
        left_predecessor = p.lineage.at_predecessor
        p.lineage.serve(snapshot, p.line.challenger.answers.twin())
        p.policy.promoted(point)
        proven = p.history.measured.get(snapshot.version)
        if proven is not None:
            p.rollback.promoted(proven, left_predecessor=left_predecessor)

    def write_promotion(
        self,
        snapshot: Snapshot,
        reason: str,
        evidence: Mapping[str, Any],
        point: OperatingPoint,
        traces: Traces,
        labels: Mapping[str, int] | None = None,
    ) -> None:
        """Write that a healed snapshot answers all requests, with an event that leaves out on which
        labels the evidence rests."""
        facts = {names.VERSION: snapshot.version, names.REASON: reason}
        with self.telemetry.span(names.PROMOTE, facts, traces):
            known = {**evidence, **(labels or {})}
            self.write(PromotionKind.PROMOTE, snapshot, reason, known, point)
            detail = {"version": snapshot.version, "reason": reason, **evidence}
            self.journal.note("promote", detail)

    def refresh(self) -> None:
        """Tell what serves what the newest rows are like, where that is long ago and it wants to
        know.

        With few labels a heal is long in coming. The weights stay, and no label is needed; but
        where none comes at all, nothing would tell that it still does any good.
        """
        p, serving = self.parts, self.parts.lineage.serving
        mixture = p.lineage.champion.mixture
        if serving is None or mixture is None or not mixture.listens or not self._may_refresh():
            return
        p.line.newest.served()
        if (context := p.line.hear_between_heals(p.cursors.predictions)) is None:
            return
        model = p.lineage.champion.twin()
        model.mixture = mixture.in_context(context)
        snapshot = p.history.save(
            Phase.POST, model, heal=serving.heal, batch=p.scoreboard.counts.labelled_batches,
            reason=REFRESHED, facts={"refreshes": serving.version},
            seen=(p.seen()[0], p.history.seen_by(serving)[1]),
            trained=p.history.unseen_from(serving),
        )  # fmt: skip
        self.write(PromotionKind.REFRESH, snapshot, REFRESHED, {}, p.policy.point)
        p.lineage.serve(snapshot, model)

    def protect_segments(self, traces: Traces) -> None:
        """Give the segments that the line harms back to the model that it replaced: their rows
        alone where that is the packaged one, which every snapshot has at hand, else all rows."""
        p, serving, harmed = self.parts, self.parts.lineage.serving, self.parts.segments.served_harm
        before = p.lineage.predecessor
        if not harmed or serving is None or before is None:
            return
        if p.controls.paused or p.controls.observing:
            return
        reason = f"what serves makes {harmed} worse"
        if not p.segments.to_package:
            self.roll_back(RollbackAdvice(serving.version, before, reason), traces)
            return
        model = p.lineage.champion.twin()
        model.left_out = p.segments.left_out
        snapshot = p.history.save(
            Phase.POST, model, heal=serving.heal, batch=p.scoreboard.counts.labelled_batches,
            reason=reason, facts={"left_out": list(p.segments.left)}, seen=p.seen(),
            trained=p.history.unseen_from(serving),
        )  # fmt: skip
        # A refresh, not a rollback: an operator who goes back must not meet the harm again.
        evidence = p.segments.evidence()
        self.write(PromotionKind.REFRESH, snapshot, reason, evidence, p.policy.point)
        detail = {"version": snapshot.version, "from": serving.version, "reason": reason}
        self.journal.note("segment_rolled_back", detail)
        p.lineage.serve(snapshot, model)
        p.scoreboard.counts.rollbacks += 1
        p.scoreboard.actions.append(f"leave out {harmed}")

    def _may_refresh(self) -> bool:
        p = self.parts
        held = p.controls.paused or p.controls.observing
        labels_come = p.drift.unlabelled < p.settings.tuning.unlabelled_batches
        held = held or p.canary.now is not None  # both are compared as they were
        return p.line.newest.outdated and p.line.gate.proven and labels_come and not held

    def roll_back(self, advice: RollbackAdvice, traces: Traces) -> None:
        """Serve another snapshot again; nothing changes when it turns out to be damaged."""
        p, version, reason = self.parts, advice.target.version, advice.reason
        with self.telemetry.span(
            names.ROLLBACK, {names.VERSION: version, names.REASON: reason}, traces
        ):
            model = p.history.load_known(advice.target)
            if model is None:
                return
            p.lineage.serve(advice.target, model)
            p.line.taken_back()
            point = self.point_of(advice.target)
            evidence = {"from_version": advice.left}
            self.write(PromotionKind.ROLLBACK, advice.target, reason, evidence, point)
            detail = {"version": version, "from": advice.left, "reason": reason}
            self.journal.note("rollback", detail)
            p.policy.put(point, "another model serves")
        p.scoreboard.counts.rollbacks += 1
        p.scoreboard.actions.append(f"rollback to {version}")
        if p.rollback.rolled_back():
            p.lineage.begin_line()
            p.line.restart()
        p.shown.become(Cause.ROLLBACK, State.ROLLED_BACK)

    def write(
        self,
        kind: PromotionKind,
        snapshot: Snapshot,
        reason: str,
        evidence: Mapping[str, Any],
        point: OperatingPoint,
        share: float = 1.0,
    ) -> None:
        """Write a promotion; whatever is not a canary's ends what is one."""
        canary = self.parts.canary
        if canary.now is not None and kind is not PromotionKind.CANARY:
            self.journal.note("canary_ended", {"version": canary.version, "reason": reason})
            canary.end()
        thresholds = self.parts.controls.thresholds.model_dump()
        self.journal.promote(
            Promotion(
                kind, snapshot.version, snapshot.tag, snapshot.sha256, reason, time.time(),
                evidence={**evidence, "thresholds": thresholds},
                trace=self.telemetry.traceparent(), operating_point=point, share=share,
            )
        )  # fmt: skip

    def point_of(
        self, snapshot: Snapshot, promoted_with: OperatingPoint | None = None
    ) -> OperatingPoint:
        """The operating point of what serves now, by the newest labels it was not trained on."""
        p, rows = self.parts, self._unseen_by(snapshot)
        said = [
            probabilities_or_half(model, rows.features) if len(rows) else rows.labels
            for model in (p.lineage.champion, p.line.challenger.answers)
        ]
        costs = p.controls.thresholds
        return p.policy.point_of_other(said[0], said[1], rows.labels, costs, promoted_with)

    def _unseen_by(self, snapshot: Snapshot) -> LabelledRows:
        p = self.parts
        first = p.history.unseen_from(snapshot)
        # Without a gate no label is kept apart from training, and the costs alone decide.
        if first is None or p.rollback.always_promotes:
            first = p.buffer.next_offset
        return p.buffer.since(first).tail(HISTORY)
