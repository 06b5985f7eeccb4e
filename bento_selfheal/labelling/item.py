"""One label of a table, with what names its row, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bento_selfheal.errors import InvalidInput


@dataclass(slots=True)
class LabelItem:
    """A label of a table; otherwise as `FeedbackItem`."""

    label: Any
    key: str | None = None
    prediction_id: str | None = None
    source: str | None = None
    corrects: bool = False
    time: float | None = None
    """When it was known, in seconds since the epoch."""
    features: Any = None
    """None: tables of labels name their rows."""
    retract: bool = False
    """False: tables of labels take none back."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row of a table whose label was not taken, and why."""

    item: int
    """Number of the row, from 0."""
    reason: str
    """Names the column and the value."""

    @classmethod
    def of(cls, item: int, error: InvalidInput) -> Rejected:
        """The row that an error is about."""
        column = ".".join(str(part) for part in error.loc[2:])
        return cls(item, f"{column}: {error.msg}" if column else error.msg)
