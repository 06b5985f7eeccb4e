"""What an offline run has in memory, and a service in its store: rows that wait."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator

from bento_selfheal.core.ids import KEY_HASH_BYTES
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.healing.labels.maturity import Maturity


class WaitingRows:
    """What the store does for a runner (`WaitingRequests`), in memory.

    Args:
        maturity: Says which requests are old enough, and whether any waits at all.
    """

    def __init__(self, maturity: Maturity) -> None:
        self._maturity = maturity
        self._asked: deque[PredictionRecord] = deque()
        self._labels: dict[bytes, list[FeedbackRecord]] = defaultdict(list)
        self._by_key: dict[bytes, FeedbackRecord] = {}

    def ask(self, asked: PredictionRecord) -> None:
        """Take a request."""
        if self._maturity.waits:
            self._asked.append(asked)

    def label(self, given: FeedbackRecord) -> None:
        """Take a label."""
        if self._maturity.waits:
            self._labels[given.request].append(given)
            if given.key is not None:
                self._by_key[given.key] = given

    def due(self, now: float) -> Iterator[tuple[PredictionRecord, list[FeedbackRecord]]]:
        """The requests that are old enough by the time of the next one, with their labels."""
        while self._asked and self._maturity.is_mature(self._asked[0], now):
            asked = self._asked.popleft()
            keys = (asked.key_of(row) for row in range(len(asked.keys) // KEY_HASH_BYTES))
            bound = (self._by_key.get(key) for key in keys if key is not None)
            elsewhere = [one for one in bound if one is not None and one.request != asked.request]
            yield asked, self._labels.pop(asked.request, []) + elsewhere
