"""Checks feedback, has it kept, and says what became of each item."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import IdSigner, is_logged
from bento_selfheal.core.labels import FIRST_NEW, NO_LABEL
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import FeedbackOutcome, FeedbackRecord, Label
from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.labelling.item import Rejected
from bento_selfheal.labelling.records import RecordReader
from bento_selfheal.serving.http.auth import NOBODY
from bento_selfheal.serving.label_log import LabelLog
from bento_selfheal.serving.monitor import DataMonitor, Labelled
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.store import SqlStore
from bento_selfheal.store.labels.conflicts import MOST_REVISIONS


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
            InvalidInput: An item is malformed, and nothing of the request was kept; or a row has
                had too many labels, and the other items were kept.
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
                    "kept": self._kept_class(label, result.rows[j]),
                }
            )
        if self._monitor is not None:
            new = [
                j for j, o in enumerate(result.outcomes)
                if o is FeedbackOutcome.ACCEPTED and records[j].label != NO_LABEL
            ]  # fmt: skip
            classes = [self._labels.class_of(records[j].label, records[j].new_class) for j in new]
            labels = [name for name in classes if name is not None]
            ids = self._ids([items[places[j]] for j in new], [result.rows[j] for j in new])
            self._monitor.append(Labelled(ids, [records[j].features for j in new], labels))
        if result.full:
            place = places[min(result.full)]
            name = items[place].key or items[place].prediction_id or "given by its features"
            raise InvalidInput(
                ("items", place), f"the row {name} has had {MOST_REVISIONS} labels, the most that "
                "one row may have; send it no more. The other items are kept", "revisions",
            )  # fmt: skip

    def _kept_class(self, label: int, row: tuple[bytes, int]) -> Label | None:
        """The class of a label that is kept; None where it was taken back."""
        if label < FIRST_NEW:
            return self._labels.class_of(label, None)
        return self._labels.class_of(label, self._log.store.new_class_of(*row))

    def _ids(self, items: Sequence[Any], rows: Sequence[tuple[bytes, int]]) -> list[str | None]:
        """Prediction ids of labels, of those by key as well where the log has their prediction."""
        by_key = {request for item, (request, _) in zip(items, rows, strict=True) if item.key}
        counts = self._log.store.rows_of(by_key) if by_key else {}
        tokens = {request: self._signer.token_of(request, n) for request, n in counts.items()}
        return [
            f"{tokens[request]}.{row}" if request in tokens else item.prediction_id
            for item, (request, row) in zip(items, rows, strict=True)
        ]
