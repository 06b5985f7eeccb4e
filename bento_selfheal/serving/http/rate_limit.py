"""How many labels a source, or a token, may send per minute."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bento_selfheal.store import SqlStore

LONGEST_NAME = 230
"""Characters of a kind and a name that the store keeps."""


@dataclass(frozen=True)
class RateLimited:
    """Why a feedback request is refused, and for how long."""

    seconds: int
    """After which it may be sent again."""
    why: str


class LabelRateLimit:
    """Counts labels over the last minute, in the store: all workers and replicas share it.

    Args:
        store: Where they are counted.
        of_source: Most labels per minute of one source; 0 for no limit.
        of_token: Most labels per minute sent with one token; 0 for no limit.
    """

    def __init__(self, store: SqlStore, of_source: int, of_token: int) -> None:
        self._store = store
        self._limits = {"source": of_source, "token": of_token}

    def take(self, items: Sequence[Any], token: str) -> RateLimited | None:
        """Count the labels of one request, all or none; None when they are within the limits.

        Args:
            items: Each with the ``source`` that it names, or None.
            token: Name of the token that they were sent with.

        Raises:
            StoreError: The store is out of reach.
        """
        sent = Counter(("source", item.source) for item in items if item.source)
        sent["token", token] += len(items)
        limited = {key: count for key, count in sent.items() if self._limits[key[0]]}
        if not limited:
            return None
        named = {f"{kind} {name!r}"[:LONGEST_NAME]: (kind, name) for kind, name in limited}
        labels = {
            text: (limited[key], self._limits[key[0]]) for text, key in named.items()
        }  # fmt: skip
        over = self._store.count_labels(labels, time.time())
        if over is None:
            return None
        count, most = labels[over.name]
        seconds = max(math.ceil(over.seconds), 1)
        return RateLimited(
            seconds,
            f"{over.name}: rate limit: at most {most} labels per minute; send these {count} "
            f"again in {seconds} s",
        )
