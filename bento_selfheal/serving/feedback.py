"""What comes in is kept: predictions behind the answer, feedback before it is acknowledged."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from bento_selfheal.core.ids import KEY_BYTES, IdSigner, is_logged
from bento_selfheal.core.records import FeedbackOutcome, FeedbackRecord
from bento_selfheal.errors import InvalidInput, StoreError
from bento_selfheal.serving.monitor import DataMonitor, Labelled
from bento_selfheal.serving.prediction_log import GROUP
from bento_selfheal.serving.rows import LabelReader, RowReader
from bento_selfheal.store import FeedbackResult, SqlStore

log = logging.getLogger(__name__)
ANSWER_SECONDS = 10.0
"""How long a request of feedback waits for the store before it is refused."""


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
        labels: Reads labels, and names the class of a kept one.
        limit: Most items that one request may carry.
        monitor: Where accepted labels are told as well.
    """

    def __init__(
        self,
        store: SqlStore,
        signer: IdSigner,
        rows: RowReader,
        labels: LabelReader,
        limit: int,
        monitor: DataMonitor | None = None,
    ) -> None:
        self._log = LabelLog(store)
        self._signer = signer
        self._rows = rows
        self._labels = labels
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
                    "kept": self._labels.classes[label],
                }
            )
        if self._monitor is not None:
            new = [j for j, o in enumerate(result.outcomes) if o is FeedbackOutcome.ACCEPTED]
            ids = [items[places[j]].prediction_id for j in new]
            labels = [self._labels.classes[records[j].label] for j in new]
            self._monitor.append(Labelled(ids, [records[j].features for j in new], labels))
