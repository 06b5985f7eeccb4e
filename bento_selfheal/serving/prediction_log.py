"""Logs predictions off the request path, in group commits."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from dataclasses import dataclass

from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import Event, PredictionRecord
from bento_selfheal.errors import StoreError
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)


GROUP = 500
"""Most requests of one commit."""
RETRY_SECONDS = 1.0
"""Longest pause after a commit that failed."""


@dataclass
class Gap:
    """Predictions that were not logged, in one stretch."""

    since: float
    rows: int = 0
    reason: str = ""


class PredictionLog:
    """A bounded queue in front of the store; a request appends to it and never waits.

    Args:
        store: Where a thread commits the queue, in groups.
        interval: Seconds between two commits.
        limit: Most rows that may wait; beyond it new ones are dropped and counted.

    Attributes:
        thread: Commits the queue; to be started and stopped. It writes what is left at its end.
        appended: Rows that were queued so far.
        written: Rows that were written so far.
        dropped: Rows that were dropped so far.
    """

    def __init__(self, store: SqlStore, *, interval: float, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._queue: deque[PredictionRecord] = deque()
        self.thread = PeriodicThread(
            "selfheal-log", self._write, interval,
            longest_retry=RETRY_SECONDS, at_end=self._write_the_rest,
        )  # fmt: skip
        self.appended = 0
        self.written = 0
        self.dropped = 0
        self._gap: Gap | None = None
        self._gap_lock = threading.Lock()  # a request counts in it while the log's thread tells it
        self._in_doubt = False

    @property
    def waiting(self) -> int:
        """Rows that wait for the store."""
        return self.appended - self.written

    def append(self, record: PredictionRecord) -> None:
        """Keep one request's predictions, or count them as dropped when the store stalls."""
        rows = len(record.probabilities)
        if self.waiting + rows > self._limit:
            self._drop(rows)
            return
        self.appended += rows
        self._queue.append(record)

    def flush(self) -> None:
        """Write what waits now.

        Raises:
            StoreError: The store did not take it; it waits on.
        """
        while self._queue:
            group = [self._queue[i] for i in range(min(GROUP, len(self._queue)))]
            self._append(group)
            for record in group:
                self._queue.popleft()
                self.written += len(record.probabilities)

    def _append(self, group: list[PredictionRecord]) -> None:
        """Write a group; a commit may have gone through though its answer was lost on the way."""
        if self._in_doubt:
            known = self._store.predictions_of({r.request for r in group})
            group = [r for r in group if r.request not in known]
        self._in_doubt = True
        if group:
            self._store.append_predictions(group)
        self._in_doubt = False

    def _drop(self, rows: int) -> None:
        self.dropped += rows
        with self._gap_lock:
            new = self._gap is None
            self._gap = self._gap or Gap(time.time())
            self._gap.rows += rows
        if new:
            log.error("%d rows wait for the store; new ones are not logged", self.waiting)

    def _explain(self) -> None:
        """Note what was dropped, once the store takes predictions again."""
        with self._gap_lock:
            gap, self._gap = self._gap, None
        if gap is None:
            return
        detail = {
            "rows": gap.rows, "since": gap.since, "until": time.time(), "pid": os.getpid(),
            "reason": gap.reason or "more rows came than the store could take",
        }  # fmt: skip
        try:
            self._store.add_event(Event("dropped", detail, time.time()))
        except StoreError:
            with self._gap_lock:
                gap.rows += self._gap.rows if self._gap is not None else 0
                self._gap = gap
            raise

    def _write(self) -> None:
        try:
            self.flush()
            self._explain()
        except StoreError as error:
            if self._gap is not None:
                self._gap.reason = self._gap.reason or str(error)
            raise StoreError(f"{self.waiting} predictions wait for the store: {error}") from error

    def _write_the_rest(self) -> None:
        try:
            self.flush()
        except StoreError as error:
            log.error("%d predictions were not logged at the end: %s", self.waiting, error)
