"""Options that say which labels of a stream come, and how those that do not are dealt with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bento_selfheal.cli.models import _name_value
from bento_selfheal.config.settings import Settings
from bento_selfheal.errors import SettingsError
from bento_selfheal.simulation.streams import LabelPattern

MOST_DIGITS = 9
"""Of a number of rows."""


def label_settings(
    unreported: str | None,
    review: str | None,
    share: float | None,
    explored: float | None,
    budget: int | None = None,
) -> dict[str, Any]:
    """The settings that are given as options, by name.

    Raises:
        SettingsError: `unreported` is not CLASS,AGE.
    """
    given = {
        "review": review,
        "review_share": share,
        "review_explored": explored,
        "review_budget": budget,
    }
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if unreported is not None:
        name, comma, after = unreported.rpartition(",")
        if not comma or not name:
            raise SettingsError(f"--unreported: {unreported!r} is not CLASS,AGE, such as 0,30d")
        label = int(name) if name.lstrip("-").isdecimal() else name
        chosen["unreported"] = {"class": label, "after": after.strip()}
    return chosen


def label_pattern(
    settings: Settings,
    only: Sequence[str] | None,
    delays: Sequence[str] | None,
    row_seconds: float | None,
) -> LabelPattern:
    """Which labels come, and how late; never those of the class that is unreported by setting.

    Raises:
        SettingsError: A delay is not CLASS=ROWS.
    """
    late = dict(_name_value(text, "--delay-of") for text in delays or [])
    for name, rows in late.items():
        if not rows.isdecimal() or len(rows) > MOST_DIGITS:
            raise SettingsError(f"--delay-of: {name}={rows}: {rows!r} is no number of rows")
    never = None if settings.unreported is None else str(settings.unreported.label)
    rows_late = {name: int(rows) for name, rows in late.items()}
    return LabelPattern(tuple(only or ()), never, rows_late, row_seconds)
