"""Lets a healed snapshot answer a share of the requests first, and all later."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bento_selfheal.core.records import OperatingPoint, Promotion, PromotionKind, Snapshot, State
from bento_selfheal.core.text import counted
from bento_selfheal.core.transitions import Cause
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.champion.canary import Underway
from bento_selfheal.healing.champion.promoter import DAMAGED, Promoter, Traces
from bento_selfheal.healing.evidence.gate import Trial
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.telemetry import names


@dataclass(frozen=True)
class Rollout:
    """Moves a canary along its shares, by labels of rows that it answered.

    Args:
        promoter: Puts in service.
    """

    promoter: Promoter

    def promote(
        self,
        snapshot: Snapshot,
        trial: Trial,
        reason: str,
        evidence: Mapping[str, Any],
        traces: Traces,
    ) -> None:
        """Let the challenger serve, whose snapshot this is: a share first, where the settings say
        so. As `Promoter.promote`."""
        p = self.promoter.parts
        if not p.canary.shares:
            self.promoter.promote(snapshot, trial, reason, evidence, traces)
            return
        labels = {"first_label": trial.first_label, "last_label": trial.last_label}
        model = p.line.challenger.answers.twin().requires_grad_(False)
        point = p.policy.point_to_promote(p.controls.thresholds)
        known = {**evidence, **p.segments.evidence(), **labels}
        share = p.canary.next_share
        after = p.cursors.predictions
        p.canary.begin(Underway(snapshot, model, point, share, time.time(), reason, known, after))
        self._tell(reason, known, traces)

    def follow(self, batch: LabelledBatch) -> None:
        """Take a labelled batch: the canary answers more, all, or nothing any more."""
        p = self.promoter.parts
        if p.canary.now is None:
            return
        why = p.canary.take(batch, p.lineage.champion, p.controls.thresholds)
        if not why and (harmed := p.segments.harmed_by(p.canary.now.model)):
            why = f"it makes {harmed} worse"
        if why:
            p.canary.distrust(why)
        self.settle(batch.traces)
        if p.canary.due and not self._held:
            self._step(batch.traces)

    def settle(self, traces: Traces = ()) -> None:
        """Roll back a canary that may not go on, unless nothing is to be changed."""
        p, now = self.promoter.parts, self.promoter.parts.canary.now
        why = p.canary.doubt
        if now is None or not why or p.controls.paused:
            return
        if p.controls.observing:
            if not p.canary.told:
                detail = {"version": now.snapshot.version, "reason": why}
                self.promoter.journal.note("would_roll_back", detail)
            p.canary.told = True
            return
        self._roll_back(now, why, traces)

    def adopt(self, promotion: Promotion) -> None:
        """Follow a canary of the promotion log that this runner knows nothing of; its evidence
        begins anew."""
        p = self.promoter.parts
        p.cursors.promotions = promotion.seq
        try:
            model = p.history.load(promotion)
        except SnapshotError as error:
            detail = {"version": promotion.version, "reason": str(error)}
            self.promoter.journal.note("refused", detail)
            self._serve_champion(promotion.version, DAMAGED)
            return
        p.canary.begin(
            Underway(
                p.history.promoted(promotion), model,
                promotion.operating_point or OperatingPoint(), promotion.share, promotion.time,
                promotion.reason, promotion.evidence, p.cursors.predictions,
            )
        )  # fmt: skip

    def finish(self, by_operator: Promotion | None = None, traces: Traces = ()) -> None:
        """Let the canary answer all requests.

        Args:
            by_operator: What an operator wrote already; None where the labels decided.
            traces: The requests that brought them.
        """
        p, now = self.promoter.parts, self.promoter.parts.canary.now
        if now is None:
            return
        labels, share = p.canary.labels, now.share
        p.canary.end(serves_all=True)
        left_predecessor = p.lineage.at_predecessor
        p.lineage.serve(now.snapshot, now.model)
        point = self.promoter.point_of(now.snapshot, now.point)
        if by_operator is None:
            seen = (
                f"no evidence of harm on {counted(labels, 'label')} of {share:.0%} of the requests"
            )
            reason = f"{now.reason}; {seen}"
            self.promoter.write_promotion(now.snapshot, reason, now.evidence, point, traces)
        p.policy.put(point, "a healed model serves")
        p.scoreboard.counts.promotions += 1
        p.scoreboard.actions.append(f"promote {now.snapshot.version}")
        if p.line.trial is not None:  # what is on trial is compared with it from now on
            p.line.trial = Trial(p.line.trial.version, p.line.trial.fresh)
        p.line.gate.restart()
        proven = p.history.measured.get(now.snapshot.version)
        if proven is not None:
            p.rollback.promoted(proven, left_predecessor=left_predecessor)

    @property
    def _held(self) -> bool:
        controls = self.promoter.parts.controls
        return controls.paused or controls.observing

    def _step(self, traces: Traces) -> None:
        p = self.promoter.parts
        if p.canary.next_share == 1:
            self.finish(traces=traces)
            return
        seen = f"no evidence of harm on {counted(p.canary.labels, 'label')}"
        p.canary.grow(time.time())
        self._tell(seen, {}, traces)

    def _tell(self, reason: str, evidence: Mapping[str, Any], traces: Traces) -> None:
        """Write which share the canary answers from now on."""
        p, now = self.promoter.parts, self.promoter.parts.canary.now
        if now is None:
            return
        version = now.snapshot.version
        with self.promoter.telemetry.span(
            names.PROMOTE, {names.VERSION: version, names.REASON: reason}, traces
        ):
            self.promoter.write(
                PromotionKind.CANARY, now.snapshot, reason, evidence, now.point, now.share
            )
            facts = {"share": now.share, "from": p.lineage.serving_version, "reason": reason}
            self.promoter.journal.note("canary", {"version": version, **facts, **evidence})
        p.scoreboard.actions.append(f"canary {version} at {now.share:.0%}")

    def _roll_back(self, now: Underway, why: str, traces: Traces) -> None:
        """Let the champion answer everything again; the line has to prove itself anew."""
        p, champion = self.promoter.parts, self.promoter.parts.lineage.serving_version
        with self.promoter.telemetry.span(
            names.ROLLBACK, {names.VERSION: champion, names.REASON: why}, traces
        ):
            p.canary.end()
            p.line.taken_back()
            self._serve_champion(now.snapshot.version, why)
        p.scoreboard.counts.rollbacks += 1
        p.scoreboard.actions.append(f"rollback to {champion}")
        if p.rollback.rolled_back():
            p.lineage.begin_line()
            p.line.restart()
        p.shown.become(Cause.ROLLBACK, State.ROLLED_BACK)

    def _serve_champion(self, left: int, why: str) -> None:
        champion, point = self.promoter.parts.lineage.serving, self.promoter.parts.policy.point
        if champion is None:
            return
        self.promoter.write(PromotionKind.ROLLBACK, champion, why, {"from_version": left}, point)
        detail = {"version": champion.version, "from": left, "reason": why}
        self.promoter.journal.note("rollback", detail)
