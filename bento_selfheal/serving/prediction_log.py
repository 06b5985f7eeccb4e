"""Logs predictions off the request path, in group commits."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from random import Random

from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import Event, PredictionRecord
from bento_selfheal.errors import StoreError
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)


GROUP = 500
"""Most requests of one commit."""
GROUP_BYTES = 8_000_000
"""Inputs of one commit: labels wait for it. A request that brings more is a commit of its own."""
INPUT_BYTES = 64_000_000
"""Most that inputs may hold of a worker's memory while they wait for the store."""
RETRY_SECONDS = 1.0
"""Longest pause after a commit that failed."""


@dataclass
class Gap:
    """Predictions, or inputs of such, that were not logged, in one stretch."""

    since: float
    reason: str
    rows: int = 0
    error: str = ""
    """What the store said; the reason behind the reason."""


PREDICTIONS, INPUTS = "dropped", "inputs_dropped"
"""Kinds of gaps, and of the events that tell of them."""


class PredictionLog:
    """A bounded queue in front of the store; a request appends to it and never waits.

    Args:
        store: Where a thread commits the queue, in groups.
        interval: Seconds between two commits.
        limit: Most rows that may wait; beyond it new ones are dropped and counted.
        input_limit: Bytes of inputs in the store beyond which no more are written. Retention holds
            them below that while a runner leads.
        share: Share of the requests that are logged at all.

    Attributes:
        thread: Commits the queue; to be started and stopped. It writes what is left at its end.
        appended: Rows that were queued so far.
        written: Rows that were written so far.
        dropped: Rows that were dropped so far.
    """

    def __init__(
        self,
        store: SqlStore,
        *,
        interval: float,
        limit: int,
        input_limit: float = math.inf,
        share: float = 1.0,
    ) -> None:
        self._store = store
        self._limit = limit
        self._input_limit = input_limit
        self._share = share
        self._draw = Random()  # noqa: S311 - which requests are logged is no secret
        self._queue: deque[PredictionRecord] = deque()
        self.thread = PeriodicThread(
            "selfheal-log", self._write, interval,
            longest_retry=RETRY_SECONDS, at_end=self._write_the_rest,
        )  # fmt: skip
        self.appended = 0
        self.written = 0
        self.dropped = 0
        # Two counters, each of one thread: bytes of inputs that came, and that left.
        self._bytes_in = self._bytes_out = 0
        self._gaps: dict[str, Gap] = {}
        self._gap_lock = threading.Lock()  # a request counts in it while the log's thread tells it
        self._in_doubt = False

    @property
    def waiting(self) -> int:
        """Rows that wait for the store."""
        return self.appended - self.written

    def takes_next(self) -> bool:
        """Whether the next request is one of those that are logged."""
        return self._share >= 1 or self._draw.random() < self._share

    def append(self, record: PredictionRecord) -> None:
        """Keep one request's predictions, or count them as dropped when the store stalls.

        Where the store falls behind with inputs alone, predictions are kept without them.
        """
        rows = len(record.probabilities)
        if self.waiting + rows > self._limit:
            self.dropped += rows
            self._note(PREDICTIONS, rows, "more rows came than the store could take")
            return
        if record.inputs and self._bytes_in - self._bytes_out + record.input_bytes > INPUT_BYTES:
            record = replace(record, inputs=())
            self._note(INPUTS, rows, "more of them came than the store could take")
        self.appended += rows
        self._bytes_in += record.input_bytes
        self._queue.append(record)

    def flush(self) -> None:
        """Write what waits now.

        Raises:
            StoreError: The store did not take it; it waits on.
        """
        while self._queue:
            group = self._group()
            self._append(group)
            for record in group:
                self._queue.popleft()
                self.written += len(record.probabilities)
                self._bytes_out += record.input_bytes

    def _group(self) -> list[PredictionRecord]:
        """What waits the longest, as much as one commit should write; at least one request."""
        group, size = [self._queue[0]], self._queue[0].input_bytes
        for i in range(1, min(GROUP, len(self._queue))):
            size += self._queue[i].input_bytes
            if size > GROUP_BYTES:
                break
            group.append(self._queue[i])
        return group

    def _append(self, group: list[PredictionRecord]) -> None:
        """Write a group; a commit may have gone through though its answer was lost on the way."""
        if self._in_doubt:
            known = self._store.predictions_of({r.request for r in group})
            group = [r for r in group if r.request not in known]
        self._in_doubt = True
        if group:
            self._store.append_predictions(self._within_bounds(group))
        self._in_doubt = False

    def _within_bounds(self, group: list[PredictionRecord]) -> list[PredictionRecord]:
        """The group; without its inputs where the store holds too much of them already."""
        rows = sum(len(r.inputs) for r in group)
        if not rows or self._store.logged_inputs() <= self._input_limit:
            return group
        self._note(INPUTS, rows, "they take more than log_megabytes, and no runner retires them")
        return [replace(r, inputs=()) for r in group]

    def _note(self, kind: str, rows: int, reason: str) -> None:
        with self._gap_lock:
            new = kind not in self._gaps
            self._gaps.setdefault(kind, Gap(time.time(), reason)).rows += rows
        if new:
            log.error("%s, %d rows wait for the store: %s", kind, self.waiting, reason)

    def _explain(self) -> None:
        """Note what was dropped, once the store takes predictions again."""
        for kind in list(self._gaps):
            with self._gap_lock:
                gap = self._gaps.pop(kind)
            detail = {
                "rows": gap.rows, "since": gap.since, "until": time.time(), "pid": os.getpid(),
                "reason": gap.error or gap.reason,
            }  # fmt: skip
            try:
                self._store.add_event(Event(kind, detail, time.time()))
            except StoreError:
                with self._gap_lock:
                    gap.rows += self._gaps[kind].rows if kind in self._gaps else 0
                    self._gaps[kind] = gap
                raise

    def _write(self) -> None:
        try:
            self.flush()
            self._explain()
        except StoreError as error:
            for gap in list(self._gaps.values()):
                gap.error = gap.error or str(error)
            raise StoreError(f"{self.waiting} predictions wait for the store: {error}") from error

    def _write_the_rest(self) -> None:
        try:
            self.flush()
        except StoreError as error:
            log.error("%d predictions were not logged at the end: %s", self.waiting, error)
