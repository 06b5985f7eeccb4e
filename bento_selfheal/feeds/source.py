"""Where a feed's labels come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bento_selfheal.labelling.table import Rows

PART_ROWS = 1000
"""Rows that are written at once: a larger write would hold predictions and feedback up."""
Places = Mapping[str, Any]
"""By item, such as the name of a file: how far it is read, as JSON values."""


@dataclass
class Part:
    """Rows that were read, and where the feed stands behind them."""

    rows: Rows
    item: str
    """The file, or what else the place is of."""
    place: dict[str, Any]


class Source(Protocol):
    """Reads a feed from its place on."""

    def parts(self, places: Places) -> Iterator[Part]:
        """What is new, in parts that may each be the last one read before a crash.

        Raises:
            FeedError: Something of it cannot be read; what could be was given before.
        """

    def gone(self, places: Places) -> list[str]:
        """The items that are no more; their places may be forgotten."""
