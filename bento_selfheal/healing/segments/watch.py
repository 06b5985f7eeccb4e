"""Watches the segments: what each is worth, and whether a promotion makes it worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.decision import THRESHOLD, decide_classes
from bento_selfheal.core.records import Phase
from bento_selfheal.core.text import counted
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.champion.lineage import Lineage
from bento_selfheal.healing.drift.watch import Rows
from bento_selfheal.healing.labels.labelled_batch import DecidedAt, LabelledBatch
from bento_selfheal.healing.review.selection import AT_RANDOM
from bento_selfheal.healing.segments.board import Board
from bento_selfheal.healing.segments.harm import Bet, SegmentGuard
from bento_selfheal.healing.segments.shift import Shift
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.segments.definition import LeftOutSegments, segments_of


@dataclass(frozen=True)
class SegmentChange:
    """A segment is left out from now on, or no more."""

    name: str
    left: bool
    reason: str


class SegmentWatch:
    """Keeps the figures of the segments, and leaves out those that a promotion would harm.

    Args:
        package: The packaged model.
        settings: Which segments, and how sure to be.
        lineage: What serves and what it replaced.

    Raises:
        SettingsError: The setting does not fit the model.
    """

    def __init__(self, package: Package, settings: Settings, lineage: Lineage) -> None:
        info = package.info
        self.segments = segments_of(
            settings.segments, info.features, info.columns, info.hidden_columns
        )
        self._lineage = lineage
        self._most = 1 / AT_RANDOM if settings.review == "queue" else 1.0
        self.board = Board(len(self.segments))
        self.guard = SegmentGuard(len(self.segments), settings.gate_alpha)
        self.shift: Shift | None = None
        if self.segments:
            decided = decide_classes(package.baseline(package.reference_rows))
            members = self.segments.members(package.reference_rows)
            self.shift = Shift(members, decided, len(info.classes))

    def answered(self, rows: Rows, threshold: float | NDArray[np.float64]) -> None:
        """Take answered rows, with the decision threshold in force, or that of each ``(n,)``."""
        if self.shift is not None:
            members = self.segments.members(rows[0])
            self.board.answered(members)
            self.shift.answered(members, decide_classes(rows[1], threshold))

    def labelled(self, batch: LabelledBatch, thresholds: DecidedAt) -> None:
        """Count what was served to labelled rows, and what the packaged model says of them."""
        if self.segments:
            served = decide_classes(batch.served, thresholds(batch.versions)) == batch.labels
            frozen = decide_classes(batch.baseline, THRESHOLD) == batch.labels
            members = self.segments.members(batch.features)
            self.board.labelled(members, served, frozen, batch.reviewed.weights)

    def leave_out_of(self, challenger: Challenger) -> None:
        """Let a challenger leave out what this watch found it to harm."""
        challenger.answers.left_out = self.left_out if self.to_package else None

    def try_challenger(
        self, batch: LabelledBatch, challenger: Challenger, threshold: float
    ) -> list[SegmentChange]:
        """Compare a challenger with what it would replace, on labels that it was not trained on."""
        if not self.segments or not len(batch):
            return []
        proves, scale = batch.reviewed.proves, batch.reviewed.scale / self._most
        harms = self._harms(batch, batch.all_by(challenger.answers), threshold)
        members = self.segments.members(batch.features)
        changed = self.guard.try_challenger(members[proves], harms[proves], scale[proves])
        return [self._changed(place, self.guard.trial) for place in changed]

    def watch_served(self, batch: LabelledBatch, thresholds: DecidedAt) -> list[SegmentChange]:
        """Compare what the line answered with what its predecessor would have."""
        before = self._lineage.predecessor
        if not self.segments or before is None:
            return []
        canary = self._lineage.canary
        its_own = (batch.versions > before.version) & ~canary.tried(batch.versions)
        if self._lineage.at_predecessor:  # of the line nothing serves but a canary
            its_own = canary.answered(batch.versions)
        own = batch.only(np.flatnonzero(its_own))
        if not len(own):
            return []
        harms = self._harms(own, own.served, thresholds(own.versions))
        members = self.segments.members(own.features)
        scale = own.reviewed.watched / self._most
        changed = self.guard.watch_served(members, harms, scale)
        return [self._changed(place, self.guard.served) for place in changed]

    def _harms(
        self,
        batch: LabelledBatch,
        said: NDArray[np.float32],
        threshold: float | NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Whether these answers are wrong less whether the predecessor's are, ``(n,)``."""
        before = batch.answers(self._lineage.predecessor_model)
        wrong = [decide_classes(p, threshold) != batch.labels for p in (said, before)]
        return np.asarray(wrong[0].astype(np.float64) - wrong[1])

    def _changed(self, place: int, bets: list[Bet]) -> SegmentChange:
        bet, name, left = bets[place], self.segments.names[place], self.guard.left[place]
        points, on = 100 * abs(bet.mean), counted(bet.process.count, "label")
        reason = (
            f"accuracy in segment {name!r} is {'lower' if left else 'higher'} by {points:.1f} "
            f"points than that of the model it replaces, on {on}"
        )
        self.guard.begin_test(place)
        return SegmentChange(name, left, reason)

    @property
    def left(self) -> tuple[str, ...]:
        """Names of the segments that are left out."""
        return tuple(
            n for n, left in zip(self.segments.names, self.guard.left, strict=True) if left
        )

    @property
    def left_out(self) -> LeftOutSegments | None:
        """The same, as a model leaves them out; None where there is none."""
        return LeftOutSegments(self.segments.only(self.left)) if self.left else None

    @property
    def to_package(self) -> bool:
        """Whether the packaged model's answers are those of what is replaced."""
        before = self._lineage.predecessor
        return before is None or before.phase is Phase.CLEAN

    @property
    def objection(self) -> str:
        """Why the whole challenger may not serve; empty where it may: by leaving segments out."""
        if self.to_package or not self.left:
            return ""
        return f"it makes {self._named()} worse"

    @property
    def served_harm(self) -> str:
        """What the line that serves harms and does not leave out; empty where there is nothing."""
        if self._lineage.at_predecessor or self._lineage.serving is None:
            return ""
        return self.harmed_by(self._lineage.champion)

    def harmed_by(self, model: SelfHealingModel) -> str:
        """What a model of the line harms and does not leave out; empty where there is nothing."""
        out = model.left_out
        gone = out.names if isinstance(out, LeftOutSegments) else ()
        return self._named() if set(self.left) - set(gone) else ""

    def _named(self) -> str:
        words = ", ".join(map(repr, self.left))
        return f"segment {words}" if len(self.left) == 1 else f"segments {words}"

    def evidence(self) -> dict[str, Any]:
        """What a promotion notes of the segments; nothing where there are none."""
        if not self.segments:
            return {}
        bets = zip(self.segments.names, self.guard.trial, strict=True)
        harm = {name: {"harm": b.mean, "labels": b.process.count} for name, b in bets}
        return {"segments": {"left_out": list(self.left), "tested": harm}}

    def status(self) -> list[dict[str, Any]]:
        """Of each segment all figures and the verdict, as JSON values."""
        if self.shift is None:
            return []
        every = zip(
            self.segments.names, self.board.each, self.shift.by_segment(), self.guard.trial,
            self.guard.left, strict=True,
        )  # fmt: skip
        return [
            {
                "segment": name, **figures.shown(), **shift, "left_out": left,
                "verdict": _verdict(bet, left),
            }
            for name, figures, shift, bet, left in every
        ]  # fmt: skip

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint; by name and rows, for another setting may come."""
        figures, shift = self.board.state(), None if self.shift is None else self.shift.state()
        return {
            "each": {
                one.name: {
                    "rows": one.condition,
                    "figures": figures[i],
                    "guard": self.guard.state(i),
                }
                for i, one in enumerate(self.segments.each)
            },
            "shift": shift,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave of the segments that are still asked for."""
        kept = {(name, one.get("rows")): one for name, one in state["each"].items()}
        asked = [(one.name, one.condition) for one in self.segments.each]
        for place, known in enumerate(asked):
            if known in kept:
                self.board.restore(place, kept[known]["figures"])
                self.guard.restore(place, kept[known]["guard"])
        if self.shift is not None and asked == list(kept):
            self.shift.restore(state["shift"])


def _verdict(bet: Bet, left: bool) -> str:
    """What the test says of a segment, in words."""
    if left:
        return "left to the model that was replaced: healing made it worse"
    return "not worse" if bet.process.count else "no labels yet"
