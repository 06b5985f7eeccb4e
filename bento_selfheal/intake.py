"""What comes in is kept: predictions behind the answer, feedback before it is acknowledged."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from .errors import InvalidInput, StoreError
from .ids import KEY_BYTES, IdSigner, is_logged
from .monitor import DataMonitor, Labelled
from .records import Event, FeedbackOutcome, FeedbackRecord, PredictionRecord
from .rows import LabelReader, RowReader
from .store import FeedbackResult, SqlStore

log = logging.getLogger(__name__)

GROUP = 500
RETRY_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""How long a request of feedback waits for the store before it is refused."""


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
        limit: Rows that may wait; beyond it new ones are dropped and counted.
    """

    def __init__(self, store: SqlStore, *, interval: float, limit: int) -> None:
        self._store = store
        self._interval = interval
        self._limit = limit
        self._queue: deque[PredictionRecord] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="selfheal-log", daemon=True)
        self.appended = 0
        self.written = 0
        self.dropped = 0
        self._gap: Gap | None = None
        self._in_doubt = False

    @property
    def waiting(self) -> int:
        """Rows that wait for the store."""
        return self.appended - self.written

    @property
    def alive(self) -> bool:
        """Whether the thread that writes still runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread.start()

    def append(self, record: PredictionRecord) -> None:
        """Keep one request's predictions, or count them as dropped when the store stalls."""
        rows = len(record.probabilities)
        if self.waiting + rows > self._limit:
            self._drop(rows)
            return
        self.appended += rows
        self._queue.append(record)

    def close(self) -> None:
        """Write what is left and stop."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

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
        if self._gap is None:
            self._gap = Gap(time.time())
            log.error("the queue is full with %d rows; new ones are not logged", self.waiting)
        self._gap.rows += rows

    def _explain(self) -> None:
        """Note what was dropped, once the store takes predictions again."""
        gap, self._gap = self._gap, None
        if gap is None:
            return
        detail = {
            "rows": gap.rows, "since": gap.since, "until": time.time(), "pid": os.getpid(),
            "reason": gap.reason or "more came than the store could take",
        }  # fmt: skip
        try:
            self._store.add_event(Event("dropped", detail, time.time()))
        except StoreError:
            gap.rows += self._gap.rows if self._gap is not None else 0
            self._gap = gap
            raise

    def _write(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            try:
                self.flush()
                self._explain()
                pause = self._interval
            except StoreError as error:
                log.warning("%d predictions wait for the store: %s", self.waiting, error)
                if self._gap is not None:
                    self._gap.reason = self._gap.reason or str(error)
                pause = RETRY_SECONDS
        try:
            self.flush()
        except StoreError as error:
            log.error("%d predictions were not logged at the end: %s", self.waiting, error)


@dataclass
class FeedbackAnswer:
    """What became of one request of feedback."""

    counts: dict[FeedbackOutcome, int] = field(
        default_factory=lambda: dict.fromkeys(FeedbackOutcome, 0)
    )
    unknown: list[str] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    unmatched: int = 0
    """Of the accepted ones, those whose prediction is not in the log: retired, or left out."""


class LabelLog:
    """Makes labels durable: what comes from several requests at once is one commit.

    Args:
        store: Where a thread commits them.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._queue: SimpleQueue[tuple[list[FeedbackRecord], Future[FeedbackResult]] | None]
        self._queue = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="selfheal-labels", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread that commits still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what waits and stop."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def keep(self, records: list[FeedbackRecord]) -> FeedbackResult:
        """Write labels; returns when they are on disk.

        Raises:
            StoreError: The store is out of reach or too slow; sent again, each counts once.
        """
        done: Future[FeedbackResult] = Future()
        if not self.alive:
            raise StoreError("the service is not taking feedback now")
        self._queue.put((records, done))
        try:
            return done.result(ANSWER_SECONDS)
        except TimeoutError:
            done.cancel()
            raise StoreError(f"the store took over {ANSWER_SECONDS:.0f} s, send again") from None

    def _write(self) -> None:
        stopping = False
        while not stopping:
            group = [self._queue.get()]
            while len(group) < GROUP and not self._queue.empty():
                group.append(self._queue.get())
            stopping = None in group
            asked = [one for one in group if one is not None]
            # One that was given up in the queue is left out: its client has been told so.
            self._commit([one for one in asked if one[1].set_running_or_notify_cancel()])
        while not self._queue.empty():
            late = self._queue.get()
            if late is not None and late[1].set_running_or_notify_cancel():
                late[1].set_exception(StoreError("the service is stopping"))

    def _commit(self, group: list[tuple[list[FeedbackRecord], Future[FeedbackResult]]]) -> None:
        if not group:
            return
        try:
            whole = self._store.add_feedback([r for records, _ in group for r in records])
        except Exception as error:  # each request gets to know why, and the thread lives on
            for _, done in group:
                done.set_exception(error)
            return
        start = 0
        for records, done in group:
            end = start + len(records)
            done.set_result(whole.part(start, end))
            start = end


class FeedbackIntake:
    """Checks items of feedback and makes them durable.

    Args:
        store: Where they are kept.
        signer: Reads prediction ids.
        rows: Reads the features of clients that keep no ids.
        labels: Reads labels.
        classes: The classes, to name a kept label.
        limit: Most items that one request may carry.
        monitor: Where accepted labels are told as well.
    """

    def __init__(
        self,
        store: SqlStore,
        signer: IdSigner,
        rows: RowReader,
        labels: LabelReader,
        classes: Sequence[Any],
        limit: int,
        monitor: DataMonitor | None = None,
    ) -> None:
        self._log = LabelLog(store)
        self._signer = signer
        self._rows = rows
        self._labels = labels
        self._classes = list(classes)
        self._limit = limit
        self._monitor = monitor

    @property
    def alive(self) -> bool:
        """Whether labels are still made durable."""
        return self._log.alive

    def stop(self) -> None:
        """Write what waits, and take nothing more."""
        self._log.stop()

    def accept(self, items: Sequence[Any], trace: str | None) -> FeedbackAnswer:
        """Keep every good item; on return each accepted label is on disk.

        Raises:
            InvalidInput: An item is malformed; none of the request was kept.
            StoreError: The store is out of reach; none was kept.
        """
        if not items:
            raise InvalidInput(("items",), "no items", "empty")
        if len(items) > self._limit:
            raise InvalidInput(
                ("items",), f"{len(items)} items are over the limit of {self._limit}", "too_many"
            )
        answer = FeedbackAnswer()
        records: list[FeedbackRecord] = []
        places: list[int] = []
        now = time.time()
        for i, item in enumerate(items):
            record = self._record(item, i, now, trace)
            if record is None:
                answer.counts[FeedbackOutcome.UNKNOWN] += 1
                answer.unknown.append(item.prediction_id)
            else:
                records.append(record)
                places.append(i)
        if records:
            self._keep(items, records, places, answer)
        return answer

    def _record(self, item: Any, i: int, now: float, trace: str | None) -> FeedbackRecord | None:
        loc = ("items", i)
        label = self._labels.read(item.label, (*loc, "label"))
        if (item.prediction_id is None) == (item.features is None):
            raise InvalidInput(loc, "give either prediction_id or features", "id_or_features")
        if item.prediction_id is not None:
            found = self._signer.read(item.prediction_id)
            if found is None:
                return None
            return FeedbackRecord(
                *found, label, now, item.source, corrects=item.corrects, trace=trace
            )
        features = self._rows.read_one(item.features, (*loc, "features"))
        # A row without an id is known by its content, or by the client's own key for it.
        content = (item.key or "").encode() or features.tobytes() + (item.source or "").encode()
        key = hashlib.sha256(content).digest()[:KEY_BYTES]
        return FeedbackRecord(
            key, 0, label, now, item.source, features, corrects=item.corrects, trace=trace
        )

    def _keep(
        self,
        items: Sequence[Any],
        records: list[FeedbackRecord],
        places: list[int],
        answer: FeedbackAnswer,
    ) -> None:
        result = self._log.keep(records)
        for j, outcome in enumerate(result.outcomes):
            answer.counts[outcome] += 1
            if outcome is FeedbackOutcome.ACCEPTED:
                left_out = records[j].features is None and not is_logged(records[j].request)
                answer.unmatched += left_out or j in result.expired
        for j, label in result.kept.items():
            item = items[places[j]]
            answer.conflicts.append(
                {
                    "item": places[j],
                    "prediction_id": item.prediction_id,
                    "given": item.label,
                    "kept": self._classes[label],
                }
            )
        if self._monitor is not None:
            new = [j for j, o in enumerate(result.outcomes) if o is FeedbackOutcome.ACCEPTED]
            ids = [items[places[j]].prediction_id for j in new]
            labels = [self._classes[records[j].label] for j in new]
            self._monitor.append(Labelled(ids, [records[j].features for j in new], labels))
