"""Checks feedback and makes it durable before it is acknowledged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import IdSigner, is_logged
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import FeedbackOutcome, FeedbackRecord
from bento_selfheal.errors import InvalidInput, StoreError
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.labelling.item import Rejected
from bento_selfheal.labelling.records import RecordReader
from bento_selfheal.serving.http.auth import NOBODY
from bento_selfheal.serving.monitor import DataMonitor, Labelled
from bento_selfheal.serving.prediction_log import GROUP
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.store import FeedbackResult, SqlStore

ANSWER_SECONDS = 10.0
"""How long a feedback request waits for the store before it is refused."""


@dataclass
class FeedbackAnswer:
    """What happened to the items of one feedback request."""

    counts: dict[FeedbackOutcome, int] = field(
        default_factory=lambda: dict.fromkeys(FeedbackOutcome, 0)
    )
    unknown: list[str] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    unmatched: int = 0
    """Of the accepted ones, those whose prediction is not in the log: expired, or never logged."""
    waiting: int = 0
    """Of the accepted ones, those whose key has no prediction in the log yet."""


class LabelLog:
    """Makes labels durable: what comes from several requests at once is one commit.

    Args:
        store: Where a thread commits them.

    Attributes:
        store: The same.
        thread: Commits the labels; it runs from the start.
    """

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self._queue: SimpleQueue[Waiting | None] = SimpleQueue()
        self.thread = PeriodicThread(
            "selfheal-labels", self._write, 0.0, at_once=True, at_end=self._refuse_the_rest
        )
        self.thread.start()

    def stop(self) -> None:
        """Write what waits and stop."""
        self._queue.put(None)
        self.thread.stop()

    def keep(self, records: list[FeedbackRecord]) -> FeedbackResult:
        """Write labels; returns when they are on disk.

        Raises:
            StoreError: The store is out of reach or too slow; sent again, each counts once.
        """
        done: Future[FeedbackResult] = Future()
        if not self.thread.alive:
            raise StoreError("the service is stopping and accepts no feedback; send it again")
        self._queue.put(Waiting(records, done))
        try:
            return done.result(ANSWER_SECONDS)
        except TimeoutError:
            done.cancel()
            raise StoreError(
                f"the store did not answer within {ANSWER_SECONDS:.0f} s; send the labels again"
            ) from None

    def _write(self) -> None:
        group = [self._queue.get()]
        while len(group) < GROUP and not self._queue.empty():
            group.append(self._queue.get())
        if None in group:
            self._queue.put(None)  # the thread is about to be stopped: do not wait here again
        # One that was given up in the queue is left out: its client was told so.
        self._commit([one for one in group if one is not None and one.begin()])

    def _refuse_the_rest(self) -> None:
        while not self._queue.empty():
            late = self._queue.get()
            if late is not None and late.begin():
                late.done.set_exception(StoreError("the service is stopping; send it again"))

    def _commit(self, group: list[Waiting]) -> None:
        if not group:
            return
        try:
            whole = self.store.add_feedback([r for one in group for r in one.records])
        except Exception as error:  # each request is told why, and the thread lives on
            for one in group:
                one.done.set_exception(error)
            return
        start = 0
        for one in group:
            end = start + len(one.records)
            one.done.set_result(whole.part(start, end))
            start = end


@dataclass(frozen=True)
class Waiting:
    """The labels of one request that waits for the store."""

    records: list[FeedbackRecord]
    done: Future[FeedbackResult]

    def begin(self) -> bool:
        """Whether the request still waits; from now on it cannot be given up."""
        return self.done.set_running_or_notify_cancel()


class FeedbackIntake:
    """Checks items of feedback and makes them durable.

    Args:
        store: Where they are kept.
        signer: Reads prediction ids.
        keys: Hashes the clients' own keys.
        read_row: Reads the features of clients that keep no ids, given where they stand.
        labels: Reads labels, and names the class of a kept one.
        limit: Most items that one request may carry.
        monitor: Collects accepted labels as well.
        days: How long the log keeps a label.
    """

    def __init__(
        self,
        store: SqlStore,
        signer: IdSigner,
        keys: KeyReader,
        read_row: Callable[[Any, tuple[str | int, ...]], NDArray[np.float32]],
        labels: LabelReader,
        limit: int,
        monitor: DataMonitor | None = None,
        *,
        days: float = math.inf,
    ) -> None:
        self._log = LabelLog(store)
        self._signer = signer
        self._labels = labels
        self._records = RecordReader(signer, keys, labels, read_row, days)
        self._limit = limit
        self._monitor = monitor

    @property
    def thread(self) -> PeriodicThread:
        """Makes labels durable; it runs from the start."""
        return self._log.thread

    def stop(self) -> None:
        """Write what waits, and accept nothing more."""
        self._log.stop()

    def accept(
        self,
        items: Sequence[Any],
        trace: str | None,
        token: str = NOBODY,
        rejected: list[Rejected] | None = None,
    ) -> FeedbackAnswer:
        """Keep every good item; on return each accepted label is on disk.

        Args:
            items: As `FeedbackItem` or `LabelItem`.
            trace: W3C traceparent of the request.
            token: Name of the token that it came with; the keys are of its predictions.
            rejected: Gets each malformed item, and the others are kept; without it, one malformed
                item refuses all.

        Raises:
            InvalidInput: An item is malformed; nothing of the request was kept.
            StoreError: The store is out of reach; nothing was kept.
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
            try:
                record = self._records.read(item, ("items", i), now, token, trace)
            except InvalidInput as error:
                if rejected is None:
                    raise
                rejected.append(Rejected.of(i, error))
                continue
            if record is None:
                answer.counts[FeedbackOutcome.UNKNOWN] += 1
                answer.unknown.append(item.prediction_id)
            else:
                records.append(record)
                places.append(i)
        if records:
            self._keep(items, records, places, answer)
        return answer

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
                by_id = records[j].features is None and records[j].key is None
                left_out = by_id and not is_logged(records[j].request)
                answer.unmatched += left_out or j in result.expired
                answer.waiting += j in result.waiting
        for j, label in result.kept.items():
            item = items[places[j]]
            answer.conflicts.append(
                {
                    "item": places[j],
                    "prediction_id": item.prediction_id,
                    **({} if item.key is None else {"key": item.key}),
                    "given": item.label,
                    "kept": self._labels.classes[label],
                }
            )
        if self._monitor is not None:
            new = [j for j, o in enumerate(result.outcomes) if o is FeedbackOutcome.ACCEPTED]
            labels = [self._labels.classes[records[j].label] for j in new]
            ids = self._ids([items[places[j]] for j in new], [result.rows[j] for j in new])
            self._monitor.append(Labelled(ids, [records[j].features for j in new], labels))

    def _ids(self, items: Sequence[Any], rows: Sequence[tuple[bytes, int]]) -> list[str | None]:
        """Prediction ids of labels, of those by key as well where the log has their prediction."""
        by_key = {request for item, (request, _) in zip(items, rows, strict=True) if item.key}
        counts = self._log.store.rows_of(by_key) if by_key else {}
        tokens = {request: self._signer.token_of(request, n) for request, n in counts.items()}
        return [
            f"{tokens[request]}.{row}" if request in tokens else item.prediction_id
            for item, (request, row) in zip(items, rows, strict=True)
        ]
