"""Takes labels in: who may teach is asked, corrections are made, and a batch becomes due."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.healing.challenger.judge import SourceJudge
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.batches import LabelledBatch
from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.healing.labels.set_aside import Answers
from bento_selfheal.healing.labels.sources import UNNAMED
from bento_selfheal.healing.parts import Parts


@dataclass(frozen=True)
class LabelIntake:
    """Learns each label once, whatever comes of it.

    Args:
        parts: The open batch, the buffer and the counts.
        journal: Where it is noted that a row was set aside.
        judge: Says who may teach.
    """

    parts: Parts
    journal: Journal
    judge: SourceJudge

    def take(self, row: JoinedRow, now: float) -> LabelledBatch | None:
        """Take a labelled row; the batch that is due with it, or None.

        Args:
            row: The row.
            now: Time of the newest entry of the logs, in seconds since the epoch.
        """
        p, counts = self.parts, self.parts.scoreboard.counts
        if row.corrects:
            self._correct(row)
            return None
        counts.joined += not row.unreported
        p.drift.unlabelled = 0
        if not p.batches.sources.admits(row.source):
            counts.refused += 1
            return None
        p.batches.add(row, counts.predicted, now)
        if not p.batches.is_due(counts.predicted, now, p.line.batch_labels):
            return None
        answers = self._set_aside()
        if not p.batches.is_due(counts.predicted, now, p.line.batch_labels):
            return None
        return LabelledBatch.of(p.batches.take(), p.lineage.champion, p.package, answers)

    def mature(self, row: JoinedRow, now: float) -> LabelledBatch | None:
        """Take a row that is old enough to count, as `take` does; a key that was asked again counts
        once while its row is here."""
        if row.has_own_key and self._is_here(row.key):
            if row.unreported:
                return None
            row = replace(row, corrects=True)
        return self.take(row, now)

    def is_useless(self, asked: PredictionRecord) -> bool:
        """Whether a prediction is of a package that serves no longer, or does not fit the model."""
        return asked.seq <= self.parts.cursors.start_from or bool(self._misfit(asked))

    def set_prediction_aside(self, asked: PredictionRecord) -> bool:
        """Give up a prediction that does not fit the model, with its labels; False where it does.

        An event names it.
        """
        if not (why := self._misfit(asked)):
            return False
        self.journal.note("prediction_set_aside", {"request": asked.request.hex(), "error": why})
        self.parts.batches.joiner.drop(asked)
        return True

    def _misfit(self, asked: PredictionRecord) -> str:
        return self.parts.package.misfit(asked.features, asked.probabilities)

    def _correct(self, row: JoinedRow) -> None:
        """Replace a label by that of another source, which answers for it from now on."""
        p, counts = self.parts, self.parts.scoreboard.counts
        if row.source is None and self._owner(row.key) is not None:
            row = replace(row, source=UNNAMED)  # else a quarantined source leaves its name out
        admitted = p.batches.sources.admits(row.source)
        trained_on = admitted and row.key in p.buffer.keys
        if trained_on:
            self.judge.judge_correction(row)
        if not admitted or (trained_on and self.judge.refuses(row)):
            counts.refused += 1
            return
        counts.corrected += 1
        if not p.buffer.correct(row.key, row.label, row.source):
            p.batches.correct(row)  # not trained on yet: it is judged with its batch

    def _is_here(self, key: bytes) -> bool:
        p = self.parts
        return key in p.buffer.keys or any(row.key == key for row in p.batches.open)

    def _owner(self, key: bytes) -> str | None:
        """The source that answers for a row that is still here."""
        p = self.parts
        if key in p.buffer.keys:
            return p.buffer.sources[p.buffer.keys.index(key)]
        return next((row.source for row in p.batches.open if row.key == key), None)

    def _set_aside(self) -> Answers | None:
        """Take rows on which the model raises out of the open batch; an event names each.

        What the frozen parts say of the batch, where no row is taken out.
        """
        batches = self.parts.batches
        before = batches.set_aside.trouble
        told_apart = batches.set_unanswerable_aside()
        for detail in told_apart.details:
            self.journal.note("row_set_aside", detail)
        if batches.set_aside.trouble and not before:
            self.journal.note("rows_set_aside", {"reason": batches.set_aside.trouble})
        return told_apart.answers
