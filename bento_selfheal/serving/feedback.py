"""Checks feedback, has it kept, and says what became of each item."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import KEY_BYTES, IdSigner, is_logged
from bento_selfheal.core.labels import FIRST_NEW, NO_LABEL
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import WAITS, FeedbackOutcome, FeedbackRecord, Label
from bento_selfheal.errors import InvalidInput
from bento_selfheal.serving.http.auth import NOBODY
from bento_selfheal.serving.label_log import LabelLog
from bento_selfheal.serving.monitor import DataMonitor, Labelled
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.serving.reading.labels import LabelReader
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
    ) -> None:
        self._log = LabelLog(store)
        self._signer = signer
        self._keys = keys
        self._read_row = read_row
        self._labels = labels
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
        self, items: Sequence[Any], trace: str | None, token: str = NOBODY
    ) -> FeedbackAnswer:
        """Keep every good item; on return each accepted label is on disk.

        Args:
            items: As `FeedbackItem`.
            trace: W3C traceparent of the request.
            token: Name of the token that it came with; the keys are of its predictions.

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
            record = self._record(item, i, now, trace, token)
            if record is None:
                answer.counts[FeedbackOutcome.UNKNOWN] += 1
                answer.unknown.append(item.prediction_id)
            else:
                records.append(record)
                places.append(i)
        if records:
            self._keep(items, records, places, answer)
        return answer

    def _record(
        self, item: Any, i: int, now: float, trace: str | None, token: str
    ) -> FeedbackRecord | None:
        loc = ("items", i)
        label, new_class = self._label(item, loc)
        by_id, by_row = item.prediction_id is not None, item.features is not None
        if by_id + (by_row or item.key is not None) != 1:
            raise InvalidInput(loc, "give one of prediction_id, key and features", "id_or_features")
        key = None if item.key is None else self._keys.hash_one(item.key, token)
        if by_id:
            place = self._signer.read(item.prediction_id)
        elif key is not None:
            place = key[:KEY_BYTES], WAITS
        features = self._read_row(item.features, (*loc, "features")) if by_row else None
        if features is not None:
            # Its content says which row it is, so that one row under many keys counts once.
            content = features.tobytes() + (item.source or "").encode()
            place = hashlib.sha256(content).digest()[:KEY_BYTES], 0
        if place is None:
            return None
        return FeedbackRecord(
            *place, label, now, item.source, features, corrects=item.corrects, trace=trace,
            key=key, new_class=new_class,
        )  # fmt: skip

    def _label(self, item: Any, loc: tuple[str | int, ...]) -> tuple[int, str | None]:
        if not item.retract:
            return self._labels.read(item.label, (*loc, "label"))
        if item.label is not None or item.corrects:
            raise InvalidInput(
                (*loc, "retract"), "takes a label back: give neither label nor corrects", "retract"
            )
        return NO_LABEL, None

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
