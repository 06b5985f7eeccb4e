"""Takes labels in: who may teach is asked, corrections are made, and a batch becomes due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.healing.challenger.judge import SourceJudge
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
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

    def take_labels(self, rows: Iterable[JoinedRow], now: float) -> Iterator[LabelledBatch]:
        """Take labels with their rows, oldest first; each batch that is due, before the next label
        is taken. Labels whose rows are not old enough yet only wait.

        Args:
            rows: The rows.
            now: Time of the newest entry of the logs, in seconds since the epoch.
        """
        weighed = map(self.parts.batches.selection.weigh, rows)
        for row in map(self.parts.batches.maturity.hold, weighed):
            if row is not None and (batch := self._evidence(self._take(row, now))) is not None:
                yield batch

    def mature(
        self, asked: PredictionRecord, labels: Sequence[FeedbackRecord], now: float, lost: int
    ) -> Iterator[LabelledBatch]:
        """Take the rows of the oldest request that waits, once it is old enough
        (`Maturity.is_mature`); each batch that is due.

        A key that was asked again counts once while its row is here.

        Args:
            asked: The request.
            labels: All labels of its rows, and of their keys where they are bound to others.
            now: Time of the prediction with which it is mature.
            lost: Requests before it that retention took.
        """
        maturity = self.parts.batches.maturity
        if maturity.pass_over(asked, lost):
            reason = "requests were removed from the log before they matured: see waiting_megabytes"
            self.journal.note("unreported_lost", {"reason": reason, "requests": lost})
        if self.is_useless(asked):
            return
        for row in maturity.rows(asked, labels, self.parts.cursors.feedback, now):
            again = row.has_own_key and self._is_here(row.key)
            if again and row.unreported:
                continue
            taken = self._take(replace(row, corrects=again), now)
            if (batch := self._evidence(taken)) is not None:
                yield batch

    def _evidence(self, batch: LabelledBatch | None) -> LabelledBatch | None:
        """A batch to learn from; None where its labels are one-sided: its rows are kept."""
        if batch is None:
            return None
        p = self.parts
        if began := p.one_sided.labelled(batch.labels):
            self.journal.note("one_sided", began)
        if not p.one_sided.holds:
            p.candidates.take(batch, p.canary.champions(batch, p.lineage.champion))
            return batch
        p.buffer.extend(list(batch.rows), batch.hidden, batch.baseline)
        return None

    def _take(self, row: JoinedRow, now: float) -> LabelledBatch | None:
        """Take a labelled row; the batch that is due with it, or None.

        Args:
            row: The row.
            now: Time of the newest entry of the logs, in seconds since the epoch.
        """
        p, counts = self.parts, self.parts.scoreboard.counts
        if row.label == NO_LABEL:
            self._take_back(row)
            return None
        if row.new_class is not None:
            self._keep_new_class(row)
            return None
        if row.corrects and not self._is_fresh(row):
            return None
        counts.joined += not (row.corrects or row.unreported)
        p.drift.unlabelled = 0
        if not p.batches.sources.admits(row.source):
            counts.refused += 1
            return None
        self._count_in_share(new=False)
        p.batches.add(row, counts.predicted, now)
        if not p.batches.is_due(counts.predicted, now, p.line.batch_labels):
            return None
        answers = self._set_aside()
        if not p.batches.is_due(counts.predicted, now, p.line.batch_labels):
            return None
        version = p.lineage.serving_version
        return LabelledBatch.of(p.batches.take(), p.lineage.champion, p.package, answers, version)

    def is_useless(self, asked: PredictionRecord) -> bool:
        """Whether a prediction is of a package that serves no longer, or does not fit the model."""
        return asked.seq <= self.parts.cursors.start_from or bool(self._misfit(asked))

    def take_prediction(self, asked: PredictionRecord) -> bool:
        """Take note of a prediction. One that does not fit the model is given up with its labels,
        and an event names it; False for such a one."""
        p = self.parts
        p.batches.maturity.answered(asked)
        if why := self._misfit(asked):
            detail = {"request": asked.request.hex(), "error": why}
            self.journal.note("prediction_set_aside", detail)
            p.batches.joiner.drop(asked)
            return False
        if not asked.retried:
            p.one_sided.answered(asked.probabilities)
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

    def _is_fresh(self, row: JoinedRow) -> bool:
        """Whether a correction is of a row that has had no label that counted; if not, it is made.

        A row that had its label taken back, or one of a class that the model lacks, gets its first
        label that can be learned. Where one had counted already, no figure counts the row again.
        """
        batches = self.parts.batches
        new = batches.new_classes.drop(row.key)
        scored = batches.taken_back.take(row.key)
        if scored:
            self._teach_again(row)
        elif scored is None and not new:
            self._correct(row)
        return not scored and (new or scored is not None)

    def _teach_again(self, row: JoinedRow) -> None:
        """Learn a new label of a row that has counted in the figures."""
        p, counts = self.parts, self.parts.scoreboard.counts
        if p.batches.sources.admits(row.source):
            self.judge.judge_correction(row)
            if not self.judge.refuses(row):
                counts.corrected += 1
                p.buffer.extend(p.batches.set_aside.sort([row]).usable)
                return
        counts.refused += 1

    def _take_back(self, row: JoinedRow) -> None:
        """Let go of a label that its source takes back."""
        self.parts.scoreboard.counts.retracted += 1
        self._let_go(row.key)

    def _let_go(self, key: bytes) -> None:
        """Learn from a row no more; a later label of it is no correction."""
        p = self.parts
        waited = p.batches.new_classes.drop(key) or p.batches.drop(key)
        p.buffer.drop(key)
        p.batches.taken_back.add(key, scored=not waited)

    def _keep_new_class(self, row: JoinedRow) -> None:
        """Count a label of a class that the model lacks, and keep its row for a retrain."""
        p, counts = self.parts, self.parts.scoreboard.counts
        counts.joined += not row.corrects
        if not p.batches.sources.admits(row.source):
            counts.refused += 1
            return
        if row.corrects:
            counts.corrected += 1
            self._let_go(row.key)
        self._count_in_share(new=True)
        if (seen := p.batches.new_classes.add(row)) is not None:
            self.journal.note("new_class", seen)

    def _count_in_share(self, *, new: bool) -> None:
        """Count a label in the share of those of new classes."""
        p = self.parts
        p.batches.new_classes.saw(new=new)
        p.scoreboard.advice.new_class = p.batches.new_classes.trouble

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
