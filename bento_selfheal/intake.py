"""What comes in is kept: predictions behind the answer, feedback before it is acknowledged."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidInput, StoreError
from .ids import KEY_BYTES, IdSigner
from .records import FeedbackOutcome, FeedbackRecord, PredictionRecord
from .rows import LabelReader, RowReader
from .store import SqlStore

log = logging.getLogger(__name__)

GROUP = 500
RETRY_SECONDS = 1.0


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

    @property
    def waiting(self) -> int:
        """Rows that wait for the store."""
        return self.appended - self.written

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread.start()

    def append(self, record: PredictionRecord) -> None:
        """Keep one request's predictions, or count them as dropped when the store stalls."""
        rows = len(record.probabilities)
        if self.waiting + rows > self._limit:
            self.dropped += rows
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
            self._store.append_predictions(group)
            for record in group:
                self._queue.popleft()
                self.written += len(record.probabilities)

    def _write(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            try:
                self.flush()
                pause = self._interval
            except StoreError as error:
                log.warning("%d predictions wait for the store: %s", self.waiting, error)
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


class FeedbackIntake:
    """Checks items of feedback and makes them durable.

    Args:
        store: Where they are kept.
        signer: Reads prediction ids.
        rows: Reads the features of clients that keep no ids.
        labels: Reads labels.
        classes: The classes, to name a kept label.
        limit: Most items that one request may carry.
    """

    def __init__(
        self,
        store: SqlStore,
        signer: IdSigner,
        rows: RowReader,
        labels: LabelReader,
        classes: Sequence[Any],
        limit: int,
    ) -> None:
        self._store = store
        self._signer = signer
        self._rows = rows
        self._labels = labels
        self._classes = list(classes)
        self._limit = limit

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
        result = self._store.add_feedback(records)
        for outcome in result.outcomes:
            answer.counts[outcome] += 1
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
