"""How many labels a source, or a token, may give in a minute."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wait:
    """Why a request of feedback is not taken now."""

    seconds: int
    why: str


class LabelRateLimit:
    """Counts labels over the last minute, in this process.

    Args:
        of_source: Most labels a minute of one source; 0 for no bound.
        of_token: Most labels a minute that come with one token; 0 for no bound.
    """

    def __init__(self, of_source: int, of_token: int) -> None:
        self._bounds = {"source": of_source, "token": of_token}
        if of_source or of_token:
            # A predict worker stays small where no bound is asked for.
            from limits import RateLimitItemPerMinute
            from limits.storage import MemoryStorage
            from limits.strategies import SlidingWindowCounterRateLimiter

            self._per_minute = RateLimitItemPerMinute
            self._counts = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, items: Sequence[Any], token: str) -> Wait | None:
        """Count the labels of one request, all or none; None when they may be taken.

        Args:
            items: Each with the ``source`` that it names, or None.
            token: Name of the token that they came with.
        """
        asked = Counter(("source", item.source) for item in items if item.source)
        asked["token", token] += len(items)
        bound = {key: count for key, count in asked.items() if self._bounds[key[0]]}
        for (kind, name), count in bound.items():
            if not self._counts.test(self._limit(kind), kind, name, cost=count):
                return self._wait(kind, name, count)
        for (kind, name), count in bound.items():
            self._counts.hit(self._limit(kind), kind, name, cost=count)
        return None

    def _limit(self, kind: str) -> Any:
        return self._per_minute(self._bounds[kind])

    def _wait(self, kind: str, name: str, count: int) -> Wait:
        until = self._counts.get_window_stats(self._limit(kind), kind, name).reset_time
        seconds = max(math.ceil(until - time.time()), 1)
        most = self._bounds[kind]
        return Wait(seconds, f"{kind} {name!r}: {count} more labels, {most} a minute are taken")
