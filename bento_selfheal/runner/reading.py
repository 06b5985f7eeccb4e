"""Reads both logs into the pipeline, at a pace that lets a runner that is behind catch up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.runner.waiting import WaitingRequests
from bento_selfheal.store import SqlStore

Entries = list[PredictionRecord | FeedbackRecord]
Known = dict[bytes, PredictionRecord]
MOST_BYTES = 16_000_000
"""Of the requests whose labels came later that are read at once."""
READ_REQUESTS = 256
READ_WRITES = 4.0
"""A runner that is behind reads on for this many times as long as its last write took."""
MOST_READ_SECONDS = 2.0
"""It reads no longer than this, because operators' commands wait meanwhile."""


class LogReader:
    """Feeds the pipeline from the prediction log and the label log.

    Args:
        store: Where both logs are.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._waiting = WaitingRequests(store)
        self.heal_seconds = 0.0
        """Seconds of a core that heals took since this was last set to 0."""
        self.write_seconds = 0.0
        """How long the last checkpoint took to write."""
        self.behind = False
        """Whether there was more to read than the last step read."""

    def forget_ahead(self) -> None:
        """Let go of what was read ahead."""
        self._waiting = WaitingRequests(self._store)

    def read(self, pipeline: Pipeline) -> bool:
        """Read what is new, until a promotion is due: a better adapter should not wait.

        Args:
            pipeline: What takes the entries.

        Returns:
            Whether there was anything to read.
        """
        until = time.monotonic() + min(READ_WRITES * self.write_seconds, MOST_READ_SECONDS)
        read, self.behind = self._read_part(pipeline)
        while self.behind and time.monotonic() < until:
            if pipeline.journal.outcome.promotions:
                break
            _, self.behind = self._read_part(pipeline)
        return read

    def _read_part(self, pipeline: Pipeline) -> tuple[bool, bool]:
        """Read a part; whether there was anything, and whether there is surely more."""
        entries = self._store.read_log(
            pipeline.parts.cursors.predictions, pipeline.parts.cursors.feedback, READ_REQUESTS
        )
        matured = 0
        for part, known, horizon in self._with_predictions(entries):
            for entry in part:
                if isinstance(entry, PredictionRecord):
                    matured += self._mature(pipeline, entry.time, READ_REQUESTS - matured)
                    if matured >= READ_REQUESTS or pipeline.journal.outcome.promotions:
                        return True, True
                with self._timed(pipeline):
                    pipeline.consume(entry, known.get(entry.request), horizon)
                if pipeline.journal.outcome.promotions:
                    return True, True
        read = sum(e.features.nbytes for e in entries if isinstance(e, PredictionRecord))
        return bool(entries), len(entries) >= READ_REQUESTS or read >= MOST_BYTES // 2

    def _with_predictions(self, entries: Entries) -> Iterator[tuple[Entries, Known, Any]]:
        """Entries in order, in parts whose labels' predictions fit into memory: with these, and
        with where the prediction log begins, if one of them is not in it."""
        here = {e.request: e for e in entries if isinstance(e, PredictionRecord)}
        wanted = {e.request for e in entries if _needs_prediction(e)} - here.keys()
        sizes = self._store.sizes_of(wanted)
        horizon = self._store.horizon() if wanted - sizes.keys() else None
        part: Entries = []
        late: set[bytes] = set()
        for entry in entries:
            more = late | ({entry.request} & sizes.keys())
            if len(more) > max(len(late), 1) and sum(sizes[r] for r in more) > MOST_BYTES:
                yield part, {**self._store.predictions_of(late), **here}, horizon
                part, more = [], {entry.request} & sizes.keys()
            part, late = [*part, entry], more
        yield part, {**self._store.predictions_of(late), **here}, horizon

    def _mature(self, pipeline: Pipeline, now: float, most: int) -> int:
        """Let requests mature that are old enough by the time of the next one, before it is read.

        Args:
            pipeline: What takes them.
            now: Time of the next prediction.
            most: Requests after which to stop; the next part goes on.

        Returns:
            How many requests have matured.
        """
        maturity, done = pipeline.parts.batches.maturity, 0
        if not maturity.waits:
            return 0
        due = self._waiting.due(
            maturity.places.matured,
            maturity.places.newest,
            lambda asked: maturity.is_mature(asked, now),
        )
        for done, ready in enumerate(due, start=1):
            with self._timed(pipeline):
                pipeline.mature(ready.asked, ready.labels, now, ready.lost)
            if done >= most or pipeline.journal.outcome.promotions:
                break
        return done

    @contextmanager
    def _timed(self, pipeline: Pipeline) -> Iterator[None]:
        """Count the seconds of what is done here where it heals."""
        began, heals = time.thread_time(), pipeline.parts.scoreboard.counts.heals
        yield
        if pipeline.parts.scoreboard.counts.heals > heals:
            self.heal_seconds += time.thread_time() - began


def _needs_prediction(entry: PredictionRecord | FeedbackRecord) -> bool:
    return isinstance(entry, FeedbackRecord) and entry.features is None
