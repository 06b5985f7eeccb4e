"""Cells of a table of labels: each checked as JSON's fields are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.item import LabelItem
from bento_selfheal.wire.messages import LONGEST_KEY, text_of_key

COLUMNS = ("key", "prediction_id", "label", "source", "corrects", "time")
"""Names that the columns of a table of labels have."""
LONGEST_SOURCE = 200
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""What `corrects` is written as in CSV."""
Place = tuple[str | int, ...]


def check_columns(names: list[str]) -> None:
    """Refuse a table whose columns are not those of labels.

    Raises:
        ValueError: Names them.
    """
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        known = ", ".join(COLUMNS)
        raise ValueError(f"unknown column {shown(unknown[0])}; the columns of labels are {known}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"column {twice!r} occurs more than once")
    if "label" not in names or not {"key", "prediction_id"} & set(names):
        raise ValueError(f"the columns label and key or prediction_id are needed, got {names}")


def item_of(cells: Mapping[str, Any], loc: Place) -> LabelItem:
    """The item of a row.

    Args:
        cells: Values by column; what is missing is None, or empty in CSV.
        loc: Where the row stands.

    Raises:
        InvalidInput: Names the column and the value.
    """
    key = text_of_key(cells.get("key"))
    wanted = "a text of 1 to {} characters, or an integer,"
    named = (
        _text(key, (*loc, "key"), LONGEST_KEY, wanted),
        _text(cells.get("prediction_id"), (*loc, "prediction_id"), LONGEST_SOURCE),
    )
    if named == (None, None):
        names = [name for name in ("key", "prediction_id") if name in cells]
        wrong = "it is empty" if len(names) == 1 else "it is empty, and prediction_id is too"
        raise InvalidInput((*loc, names[0]), wrong, "missing")
    return LabelItem(
        cells.get("label"),
        *named,
        _text(cells.get("source"), (*loc, "source"), LONGEST_SOURCE),
        _truth(cells.get("corrects"), (*loc, "corrects")),
        _seconds(cells.get("time"), (*loc, "time")),
    )


def _text(
    value: Any, loc: Place, longest: int, wanted: str = "a text of 1 to {} characters"
) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > longest or "\0" in value:
        raise InvalidInput(loc, f"{wanted.format(longest)} is needed, got {shown(value)}", "text")
    return value


def _truth(value: Any, loc: Place) -> bool:
    if value is None or value == "":
        return False
    found = TRUTHS.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise InvalidInput(loc, f"true or false is needed, got {shown(value)}", "bool")
    return found


def _seconds(value: Any, loc: Place) -> float | None:
    """A time as seconds since the epoch; one without a zone is of UTC."""
    if value is None or value == "":
        return None
    try:
        when = _number_or_moment(value)
    except (ValueError, OverflowError):
        when = None
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not isinstance(when, int | float) or isinstance(when, bool) or not math.isfinite(when):
        wanted = "a time (ISO 8601, or seconds since the epoch)"
        raise InvalidInput(loc, f"{wanted} is needed, got {shown(value)}", "time")
    return float(when)


def _number_or_moment(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return datetime.fromisoformat(value)
