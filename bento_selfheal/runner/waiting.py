"""Requests of the log that wait to be old enough, with the labels of their rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.store import SqlStore

READ_AHEAD = 64
"""Requests that are read at once; labels of those that are old enough are read together."""


@dataclass(frozen=True)
class Matured:
    """A request that is old enough."""

    asked: PredictionRecord
    labels: list[FeedbackRecord]
    """All labels of its rows, and of their keys where they are bound to others."""
    lost: int
    """Requests between the last one and this one that retention took."""


class WaitingRequests:
    """Reads the prediction log a second time, behind the place up to which requests have matured.

    Args:
        store: Where both logs are.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._ahead: deque[PredictionRecord] = deque()
        self._place = 0

    def due(
        self, place: int, upto: int, is_mature: Callable[[PredictionRecord], bool]
    ) -> Iterator[Matured]:
        """The requests that are old enough, oldest first.

        Args:
            place: Up to here they have matured.
            upto: The place of the newest request that may.
            is_mature: Whether a request is old enough.
        """
        while ready := self._ready(place, upto, is_mature):
            labels = self._store.labels_of(ready)
            for asked in ready:
                lost = self._lost(place, asked.seq)
                place = asked.seq
                yield Matured(asked, labels.get(asked.request, []), lost)

    def _ready(
        self, place: int, upto: int, is_mature: Callable[[PredictionRecord], bool]
    ) -> list[PredictionRecord]:
        if place < self._place:  # the step was given up, and begins again
            self._ahead.clear()
        self._place = place
        while self._ahead and self._ahead[0].seq <= place:
            self._ahead.popleft()
        if not self._ahead and place < upto:
            self._ahead.extend(self._store.requests_after(place, upto, READ_AHEAD))
        ready = []
        for asked in self._ahead:
            if asked.seq > upto or not is_mature(asked):
                break
            ready.append(asked)
        return ready

    def _lost(self, place: int, seq: int) -> int:
        """Requests after a place that retention took; other gaps are numbers never given."""
        if seq == place + 1 or (horizon := self._store.horizon()) is None:
            return 0
        return max(min(horizon.seq, seq) - place - 1, 0)
