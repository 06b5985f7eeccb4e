"""Rows wait until they are old enough to count, where one class is never reported.

All rows then count in the order in which they were answered, each at the same age: with the label
that has come by then, or as the class that nobody reports. Both follow from the logs alone. Time is
that of the newest prediction, and what is known of a row are the labels up to the runner's place in
the log of labels. So a replay matures the same rows at the same places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bento_selfheal.config.unreported import Unreported
from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.log.erased import is_erased, rows_left
from bento_selfheal.core.records import FeedbackRecord, Label, PredictionRecord
from bento_selfheal.core.transitions import forward
from bento_selfheal.errors import SettingsError
from bento_selfheal.healing.labels.join import JoinedRow, joined_row

NOWHERE = -1


@dataclass
class MaturityCounts:
    """What became of the rows that waited."""

    rows: int = 0
    """Those that matured and count, with either label."""
    unreported: int = 0
    """Of these, the ones that nobody had reported."""
    early: int = 0
    """Labels whose rows still wait."""
    late: int = 0
    """Labels that came after their row had matured, and replaced the class it got."""
    lost: int = 0
    """Requests that retention took before they matured."""


@dataclass
class Places:
    """Places in the log of predictions; `NOWHERE` before the first."""

    since: int = NOWHERE
    """Up to here rows do not wait: they came before the setting."""
    matured: int = NOWHERE
    """Up to here all rows have matured."""
    newest: int = NOWHERE
    """The newest prediction that was read."""
    time: float = 0.0
    """When that was answered, in seconds since the epoch."""
    matured_time: float | None = None
    """When the newest row that has matured was answered."""


class Maturity:
    """Holds labels back until their rows are old enough, and gives others the class unreported.

    Args:
        unreported: The setting; without it every label counts when it comes.
        classes: The classes of the model.

    Raises:
        SettingsError: The model has no such class.
    """

    def __init__(self, unreported: Unreported | None, classes: Sequence[Label]) -> None:
        self._setting = unreported
        self._class: int | None = None
        if unreported is not None:
            if unreported.label not in classes:
                raise SettingsError(
                    f"unreported.class: {unreported.label!r} is no class of the model, whose "
                    f"classes are {list(classes)}"
                )
            self._class = list(classes).index(unreported.label)
        self.counts = MaturityCounts()
        self.places = Places()

    @property
    def waits(self) -> bool:
        """Whether rows wait: by the setting, or from before it was taken back."""
        return self._setting is not None or self.places.matured < self.places.newest

    def answered(self, asked: PredictionRecord) -> None:
        """Take a prediction that is read now; the ones that are mature with it come first."""
        at = self.places
        if not self.waits:
            at.since = at.matured = asked.seq
        elif at.matured == NOWHERE:  # the first with the setting, or of an older checkpoint
            at.since = at.matured = asked.seq - 1
        at.newest, at.time = asked.seq, asked.time

    def is_mature(self, asked: PredictionRecord, now: float) -> bool:
        """Whether a row is old enough to count.

        Args:
            asked: Its prediction.
            now: Time of the newest prediction. Clocks are set back: one that is as far ahead of it
                holds nobody up.
        """
        return self._setting is None or abs(now - asked.time) >= self._setting.seconds

    def hold(self, row: JoinedRow) -> JoinedRow | None:
        """What a label counts as when it comes; None where its row waits, or nothing changes."""
        if not self.places.since < row.asked:
            return row
        if row.asked > self.places.matured:
            self.counts.early += not row.corrects
            return None
        if row.corrects:
            return row
        if row.label == NO_LABEL and self._class is not None:
            return replace(row, label=self._class, corrects=True)  # nobody reports it any more
        if row.label == self._class:
            return None  # the row got this class when it matured
        self.counts.late += 1
        return replace(row, corrects=True)

    def keeps_back(self, label: FeedbackRecord, asked: PredictionRecord | None) -> bool:
        """Whether a label waits for its row to be old enough."""
        return label.features is None and asked is not None and asked.seq > self.places.matured

    def pass_over(self, asked: PredictionRecord, lost: int) -> bool:
        """Let a request mature: it is handed over once. Whether it is the first after a loss.

        Args:
            asked: The oldest request that waits.
            lost: Requests before it that are gone from the log.
        """
        first = lost > 0 and self.counts.lost == 0
        self.counts.lost += lost
        at = self.places
        at.matured, at.matured_time = forward("matured", at.matured, asked.seq), asked.time
        if self._setting is None:
            at.since = at.matured
        return first

    def rows(
        self, asked: PredictionRecord, labels: Sequence[FeedbackRecord], place: int, now: float
    ) -> Iterator[JoinedRow]:
        """The rows of a request that matures, each with its label or the class unreported.

        Args:
            asked: The request.
            labels: All labels of its rows, and of their keys where they are bound to others.
            place: Place in the log of labels up to which they are known.
            now: Time of the newest prediction.
        """
        known = [one for one in labels if one.seq <= place]
        given = _given(asked, known)
        self.counts.early -= min(len(given), self.counts.early)
        for label in self.labels(asked, known):
            reported = label.row in given
            self.counts.rows += 1
            self.counts.unreported += not reported
            yield replace(
                joined_row(label, asked.features[label.row], asked),
                delay=max(now - asked.time, 0.0), corrects=False, unreported=not reported,
                feedback_seq=label.seq or place,
            )  # fmt: skip

    def labels(
        self, asked: PredictionRecord, known: Sequence[FeedbackRecord]
    ) -> Iterator[FeedbackRecord]:
        """What each row of a request counts as once it is old enough; none where its key has its
        label on another row, or where it stands for a row that was sent before.

        Args:
            asked: The request.
            known: Its labels and its keys' labels that are known by then.
        """
        given, left = _given(asked, known), rows_left(asked)
        elsewhere = {one.key for one in known if one.request != asked.request}
        for row in np.flatnonzero(left).tolist():
            if row in given:
                yield given[row]
            elif self._class is None or asked.retried:
                continue
            elif asked.key_of(row) not in elsewhere:
                yield FeedbackRecord(asked.request, row, self._class, 0.0)

    def status(self) -> dict[str, Any] | None:
        """As JSON values; None where no row waits or ever did."""
        if not self.waits and not self.counts.rows:
            return None
        at, setting = self.places, self._setting
        newest = at.matured_time
        return {
            "class": None if setting is None else setting.label,
            "after_seconds": 0.0 if setting is None else setting.seconds,
            "age_seconds": None if newest is None else at.time - newest,
            "waiting_requests": at.newest - at.matured,
            "since": at.since,
            "matured": at.matured,
            **asdict(self.counts),
        }

    def take_up(self, shown: Mapping[str, Any], newest: int) -> None:
        """Go on where the last status says that rows wait; it outlives a checkpoint.

        Args:
            shown: What `status` gave; empty where there was nothing.
            newest: Place of the newest prediction.
        """
        if shown:
            self.places = Places(shown["since"], shown["matured"], newest)

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"counts": asdict(self.counts), "places": asdict(self.places)}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave; an empty state is that of an earlier release."""
        self.counts = MaturityCounts(**state.get("counts", {}))
        self.places = Places(**state.get("places", {}))


def _given(asked: PredictionRecord, known: Sequence[FeedbackRecord]) -> dict[int, FeedbackRecord]:
    """The newest label of each row of a request that has one and still has it."""
    own = sorted((one for one in known if one.request == asked.request), key=_place)
    newest = {one.row: one for one in own}
    return {
        row: one for row, one in newest.items()
        if one.label != NO_LABEL and not is_erased(asked, row)
    }  # fmt: skip


def _place(label: FeedbackRecord) -> int:
    return label.seq
