"""How many labels a source, or a token, may send per minute."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RateLimited:
    """Why a feedback request is refused, and for how long."""

    seconds: int
    """After which it may be sent again."""
    why: str


class LabelRateLimit:
    """Counts labels over the last minute, in this process.

    Args:
        of_source: Most labels per minute of one source; 0 for no limit.
        of_token: Most labels per minute sent with one token; 0 for no limit.
    """

    def __init__(self, of_source: int, of_token: int) -> None:
        self._limits = {"source": of_source, "token": of_token}
        if of_source or of_token:
            # A predict worker stays small where no limit is set.
            from limits import RateLimitItemPerMinute
            from limits.storage import MemoryStorage
            from limits.strategies import SlidingWindowCounterRateLimiter

            self._per_minute = RateLimitItemPerMinute
            self._counts = SlidingWindowCounterRateLimiter(MemoryStorage())

    def take(self, items: Sequence[Any], token: str) -> RateLimited | None:
        """Count the labels of one request, all or none; None when they are within the limits.

        Args:
            items: Each with the ``source`` that it names, or None.
            token: Name of the token that they were sent with.
        """
        sent = Counter(("source", item.source) for item in items if item.source)
        sent["token", token] += len(items)
        limited = {key: count for key, count in sent.items() if self._limits[key[0]]}
        for (kind, name), count in limited.items():
            if not self._counts.test(self._limit(kind), kind, name, cost=count):
                return self._refuse(kind, name, count)
        for (kind, name), count in limited.items():
            self._counts.hit(self._limit(kind), kind, name, cost=count)
        return None

    def _limit(self, kind: str) -> Any:
        return self._per_minute(self._limits[kind])

    def _refuse(self, kind: str, name: str, count: int) -> RateLimited:
        until = self._counts.get_window_stats(self._limit(kind), kind, name).reset_time
        seconds = max(math.ceil(until - time.time()), 1)
        most = self._limits[kind]
        return RateLimited(
            seconds,
            f"{kind} {name!r}: rate limit: at most {most} labels per minute; send these {count} "
            f"again in {seconds} s",
        )
