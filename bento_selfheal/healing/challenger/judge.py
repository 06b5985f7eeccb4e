"""Judges who teaches the challenger, and forgets what a source taught."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.challenger.line import ChallengerLine
from bento_selfheal.healing.champion.lineage import Lineage
from bento_selfheal.healing.controls import Controls
from bento_selfheal.healing.journal import Journal
from bento_selfheal.healing.labels.batches import LabelBatches
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch, served_answers
from bento_selfheal.scoring.losses import excess_losses, unnamed_shares


class SourceJudge:
    """Quarantines sources whose labels contradict the others'.

    Args:
        controls: Nobody is judged while paused.
        journal: Where a quarantine is noted.
        batches: The open batch and the sources.
        buffer: The rows to train on.
        line: What is taught.
        lineage: Where a line begins that has forgotten something.
    """

    def __init__(
        self,
        controls: Controls,
        journal: Journal,
        batches: LabelBatches,
        buffer: Buffer,
        line: ChallengerLine,
        lineage: Lineage,
    ) -> None:
        self._controls = controls
        self._journal = journal
        self._batches = batches
        self._buffer = buffer
        self._line = line
        self._lineage = lineage

    def judge(self, batch: LabelledBatch) -> LabelledBatch:
        """Judge rows that nothing has trained on; those that may be learned from."""
        if any(batch.sources) and not self._controls.paused:
            answers = batch.answers(self._line.challenger.answers)
            # Who reports one class alone surprises more than rows that nobody reports ever can.
            told = np.flatnonzero([not row.unreported for row in batch.rows])
            sources = [batch.sources[i] for i in told]
            self._judge(sources, answers[told], batch.labels[told])
        return batch.only(np.flatnonzero([not self.refuses(row) for row in batch.rows]))

    def judge_correction(self, row: JoinedRow) -> None:
        """Judge who corrects a row that was trained on, by what both models find surprising.

        What was served may be of before a drift, and the challenger has trained on the label that
        is corrected; so the one that contradicts the correction less is heard.
        """
        if row.source is None or self._controls.paused:
            return
        features = row.features[None].astype(np.float32)
        served = served_answers([row], features, self._lineage.champion)
        label = np.asarray([row.label], dtype=np.float32)
        both = [served, self._line.answer(features)]
        losses = [float(excess_losses(a, label, self._controls.thresholds)[0]) for a in both]
        self._judge([row.source], both[int(np.argmin(losses))], label)

    def refuses(self, row: JoinedRow) -> bool:
        """Whether a row is of a quarantined source."""
        found = self._batches.sources.known.get(row.source or "")
        return found is not None and bool(found.quarantined)

    def forget(self, source: str, reason: str, by: str = "runner") -> int:
        """Learn from a source no more, drop its rows, and begin a new line without them."""
        self._batches.sources.refuse(source, reason)
        gone = self._buffer.forget(source)
        new = self._batches.forget(source)
        detail = {"source": source, "reason": reason, "rows": gone + new, "by": by}
        self._journal.note("quarantine", detail)
        if gone:
            self._line.restart(self._lineage.predecessor_model)
            self._lineage.canary.distrust(f"it may have learned from {source}, now quarantined")
        return gone + new

    def release(self, source: str, by: str) -> bool:
        """Learn from a quarantined source again, judged anew; False when it is not quarantined."""
        was = self._batches.sources.release(source)
        detail = {"source": source, "quarantined": was or None, "by": by}
        self._journal.note("release", detail)
        return bool(was)

    def _judge(
        self,
        sources: Sequence[str | None],
        answers: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> None:
        excess = excess_losses(answers, labels, self._controls.thresholds)
        unnamed = unnamed_shares(answers, labels)
        self._quarantine(self._batches.sources.judge(sources, excess, unnamed))

    def _quarantine(self, refused: list[tuple[str, str]]) -> None:
        for source, reason in refused:
            self.forget(source, reason)
