"""The columns of a model: values from outside become codes, and codes become values again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.column import Column, Kind

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400.0
UNSEEN = "(unseen)"
"""Stands for a category whose name no code keeps."""
WANTED = {
    Kind.NUMBER: "a finite number", Kind.INTEGER: "a whole number", Kind.BOOLEAN: "true or false",
    Kind.CATEGORY: "a text", Kind.DATETIME: "a date such as 2026-11-28 or 2026-11-28T09:30:00Z",
}  # fmt: skip


class Misfit(ValueError):
    """A value that its column cannot hold.

    Attributes:
        column: The column's name.
        wanted: What belongs there.
        value: What was given.
        row: Its row, from 0.
    """

    def __init__(self, column: Column, value: Any, row: int) -> None:
        self.row = row
        orempty = " or null" if column.nullable else ""
        self.column, self.wanted, self.value = column.name, WANTED[column.kind] + orempty, value
        super().__init__(f"column {column.name!r}: {self.wanted} is needed, got {value!r}")


class Schema:
    """The columns of a model, in the order of its rows.

    Args:
        columns: The columns.

    >>> schema = Schema([Column(name="sky", kind=Kind.CATEGORY, levels=("clear", "fog"))])
    >>> schema.code(["fog"]).tolist(), schema.code(["snow"]).tolist()
    ([1.0], [2.0])
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self._read = [reader_of(column) for column in columns]
        self._origin = np.asarray([column.origin for column in columns], dtype=np.float64)
        self._nullable = np.asarray([column.nullable for column in columns], dtype=np.bool_)

    def code(self, row: Sequence[Any]) -> NDArray[np.float32]:
        """The codes of one row, ``(columns,)``.

        Raises:
            Misfit: A column cannot hold its value.
        """
        codes: NDArray[np.float32] = self.codes([row])[0]
        return codes

    def codes(self, rows: Sequence[Sequence[Any]]) -> NDArray[np.float32]:
        """The codes of rows that are as wide as there are columns, ``(n, columns)``.

        Raises:
            Misfit: A column cannot hold its value; the first of the first row is named.
        """
        wide = np.empty((len(rows), len(self.columns)))
        for i, values in enumerate(zip(*rows, strict=True)):
            wide[:, i] = _numbers(self.columns[i].kind, values, self._read[i])
        return self.coded(wide, lambda row, place: rows[row][place])

    def coded(
        self, wide: NDArray[np.float64], given: Callable[[int, int], Any]
    ) -> NDArray[np.float32]:
        """The codes of values that were read as numbers, ``(n, columns)``.

        Args:
            wide: NaN where a value is missing, infinite where its column cannot hold it.
            given: The value of a row and column, as it was given.

        Raises:
            Misfit: As of `codes`.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            codes = (wide - self._origin).astype(np.float32)
        bad = ~np.isfinite(codes) & ~(np.isnan(wide) & self._nullable)
        if bad.any():
            row, place = map(int, np.argwhere(bad)[0])
            raise Misfit(self.columns[place], given(row, place), row)
        return codes

    def values(self, codes: NDArray[np.float32]) -> dict[str, list[Any]]:
        """By column what the codes ``(n, columns)`` stand for; None where it is missing, and where
        a category was never seen, whose name no code keeps."""
        return {
            column.name: [_value(column, float(code)) for code in codes[:, i]]
            for i, column in enumerate(self.columns)
        }

    def json_rows(self, codes: NDArray[np.float32]) -> list[list[Any]]:
        """Rows as a client sends them for codes ``(n, columns)``; an unseen category stays one."""
        columns = self.values(codes)
        for i, column in enumerate(self.columns):
            told = columns[column.name]
            if column.kind is Kind.DATETIME:
                columns[column.name] = [day and day.isoformat() for day in told]
            elif column.kind is Kind.CATEGORY:
                unseen = codes[:, i] >= len(column.levels)
                columns[column.name] = [
                    UNSEEN if new else v for v, new in zip(told, unseen, strict=True)
                ]
        return [list(row) for row in zip(*columns.values(), strict=True)]


def _numbers(kind: Kind, values: Sequence[Any], read: Callable[[Any], float]) -> Any:
    """The values of a column as numbers: NaN where one is missing, infinite where it is none."""
    if kind in PLAIN and PLAIN[kind].issuperset(map(type, values)):
        try:
            return np.array(values, dtype=np.float64)  # a null is NaN here
        except OverflowError:
            pass  # of an integer beyond all floats
    elif TEXTS.issuperset(map(type, values)):
        # Categories come again and again, and dates often do: each is read once.
        told = {value: number_of(value, read) for value in set(values)}
        return [told[value] for value in values]
    return [number_of(value, read) for value in values]


def number_of(value: Any, read: Callable[[Any], float]) -> float:
    """A value as its column reads it: NaN where it is missing, infinite where it is none."""
    try:
        return math.nan if value is None or value != value else read(value)
    except (ValueError, TypeError, OverflowError):
        return math.inf


def reader_of(column: Column) -> Callable[[Any], float]:
    """Reads a value that is not missing; raises where the column cannot hold it."""
    if column.kind is not Kind.CATEGORY:
        return _READ[column.kind]
    places = {level: float(i) for i, level in enumerate(column.levels)}
    unseen = float(len(places))
    switch = bool({"True", "False"} & set(places))
    numbers = not places or any(map(_is_number, places))

    def level(value: Any) -> float:
        """The place of a level; a number or a boolean is told by its text, as in a file.

        A boolean or a number is refused where no level is one: it would be unseen in every row, as
        of a column that was yes and no, or 01234 and 05678, in the file.
        """
        if isinstance(value, str):
            return places.get(value.strip(), unseen)
        if not isinstance(value, int | float | np.generic):
            raise TypeError
        if not (switch if isinstance(value, bool | np.bool_) else numbers):
            raise TypeError
        return places.get(str(value).strip(), unseen)

    return level


def _is_number(level: str) -> bool:
    """Whether a level is the text of a number, such as 7 and 1.5, but not 07."""
    for kind in (int, float):
        with suppress(ValueError):
            if str(kind(level)) == level:
                return True
    return False


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError
    return float(value)


def _integer(value: Any) -> float:
    number = _number(value)
    if not number.is_integer():
        raise ValueError
    return number


def _boolean(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or (type(value) in (int, float) and value in (0, 1)):
        return float(value)
    raise TypeError


def _days(value: Any) -> float:
    """Days since the epoch; a time without a zone is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, np.datetime64):
        return float((value - np.datetime64(0, "s")) / np.timedelta64(1, "s")) / DAY
    if isinstance(value, datetime):
        zoned = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (zoned - EPOCH).total_seconds() / DAY
    if isinstance(value, date):
        return float((value - EPOCH.date()).days)
    raise TypeError


_READ: dict[Kind, Callable[[Any], float]] = {
    Kind.NUMBER: _number, Kind.INTEGER: _integer, Kind.BOOLEAN: _boolean, Kind.DATETIME: _days,
}  # fmt: skip
PLAIN = {
    Kind.NUMBER: frozenset((int, float, type(None))), Kind.INTEGER: frozenset((int, type(None))),
    Kind.BOOLEAN: frozenset((bool, type(None))),
}  # fmt: skip
"""Types of values that numpy reads as a column does, all at once."""
TEXTS = frozenset((str, type(None)))


def _value(column: Column, code: float) -> Any:
    if math.isnan(code):
        return None
    if column.kind is Kind.CATEGORY:
        return column.levels[int(code)] if code < len(column.levels) else None
    if column.kind is Kind.BOOLEAN:
        return bool(code)
    if column.kind is Kind.DATETIME:
        return EPOCH + timedelta(days=code + column.origin)
    number = code + column.origin
    return round(number) if column.kind is Kind.INTEGER else number


def described(columns: Sequence[Column]) -> list[Mapping[str, Any]]:
    """Columns as JSON values."""
    return [column.model_dump(mode="json", exclude_defaults=True) for column in columns]
