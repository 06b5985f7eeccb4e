"""Items of feedback as rows of the label log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import KEY_BYTES, IdSigner
from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import WAITS, FeedbackRecord
from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.labelling.key_hash import KeyHasher

AHEAD = 60.0
"""Seconds that another machine's clock may be ahead."""
DAY = 86_400.0
Place = tuple[str | int, ...]


class RecordReader:
    """Turns items of feedback into records.

    Args:
        signer: Reads prediction ids.
        keys: Hashes the clients' own keys.
        labels: Reads labels.
        read_row: Reads the features of clients that keep no ids, given where they stand.
        days: How long the log keeps a label.
    """

    def __init__(
        self,
        signer: IdSigner,
        keys: KeyHasher,
        labels: LabelReader,
        read_row: Callable[[Any, Place], NDArray[np.float32]],
        days: float,
    ) -> None:
        self._signer = signer
        self._keys = keys
        self._labels = labels
        self._read_row = read_row
        self._days = days

    def read(
        self, item: Any, loc: Place, now: float, token: str, trace: str | None = None
    ) -> FeedbackRecord | None:
        """The record of an item; None where nobody issued its prediction id.

        Args:
            item: A `FeedbackItem` or a `LabelItem`.
            loc: Where it stands.
            now: Seconds since the epoch.
            token: Name of the token that it came with; the keys are of its predictions.
            trace: W3C traceparent of the request.

        Raises:
            InvalidInput: It is malformed; the field is named.
        """
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
        time = self._time(item.time, loc, now)
        if place is None:
            return None
        return FeedbackRecord(
            *place, label, time, item.source, features, corrects=item.corrects, trace=trace,
            key=key, new_class=new_class,
        )  # fmt: skip

    def _label(self, item: Any, loc: Place) -> tuple[int, str | None]:
        if not item.retract:
            return self._labels.read(item.label, (*loc, "label"))
        if item.label is not None or item.corrects:
            raise InvalidInput(
                (*loc, "retract"), "takes a label back: give neither label nor corrects", "retract"
            )
        return NO_LABEL, None

    def _time(self, known: float | None, loc: Place, now: float) -> float:
        """When a label was known; now, where nothing is said."""
        if known is None:
            return now
        if known > now + AHEAD:
            raise InvalidInput((*loc, "time"), f"{_date(known)} is in the future", "time")
        if known < now - self._days * DAY:
            # The log deletes it at once, and it would count twice when it is sent again.
            said = f"{_date(known)} is longer ago than feedback_days, {self._days:g}"
            raise InvalidInput((*loc, "time"), said, "time")
        return min(known, now)


def _date(seconds: float) -> str:
    """A time for people, beside the number that was given.

    >>> _date(1.5e9), _date(1.5e12)
    ('2017-07-14T02:40:00+00:00 (1500000000.0)', '1500000000000.0 seconds since the epoch')
    """
    try:
        return f"{datetime.fromtimestamp(seconds, UTC).isoformat()} ({shown(seconds)})"
    except (ValueError, OverflowError, OSError):  # often milliseconds
        return f"{shown(seconds)} seconds since the epoch"
