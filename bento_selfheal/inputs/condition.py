"""Conditions on a column, in the values that people know, for the codes that rows hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import DAY, WANTED, number_of, reader_of

Operator = Literal[
    "<", "<=", ">", ">=", "==", "!=", "in", "not in", "within", "is missing", "is not missing"
]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
Part = Literal["", "weekday", "hour"]
"""What of a date is compared: all of it, or one of these."""
Value = float | bool | str
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HOURS = 24
ORDER: tuple[Operator, ...] = ("<", "<=", ">", ">=", "within")
GAPS: tuple[Operator, ...] = ("is missing", "is not missing")
LISTED: tuple[Operator, ...] = ("in", "not in", "within")
STEPS = {"seconds": 1.0, "minutes": 60.0, "days": DAY}
FLOAT64 = 1e-11
"""Days by which float64 blurs a date since 1970."""

Codes = NDArray[np.float32]
Holds = Callable[[Codes], NDArray[np.bool_]]
Span = tuple[float, float]
"""The first and the last of what a value stands for; both are the same but for a day."""


def condition(
    column: Column, operator: Operator, value: Value | Sequence[Value], part: Part = ""
) -> Holds:
    """Where a condition holds, for codes ``(n,)``. Where a value is missing, only `GAPS` hold.

    A date without a time stands for its whole day. Days and hours are those of UTC. Dates are
    compared as their codes hold them; a time that these cannot tell from its neighbours is refused.

    Args:
        column: The column.
        operator: One of `OPERATORS`; `within` includes both ends.
        value: What is compared with: several values for `LISTED`, two of them for `within`, and
            nothing for `GAPS`.
        part: What of a date is compared; a weekday by its name, an hour as 0 to 23.

    Raises:
        ValueError: They do not fit; the message names column, operator and value.

    >>> sky = Column(name="sky", kind=Kind.CATEGORY, levels=("clear", "fog"))
    >>> condition(sky, "in", ["fog"])(np.array([0, 1, 2, np.nan], dtype=np.float32)).tolist()
    [False, True, False, False]
    """
    _check(column, operator, value, part)
    if operator in GAPS:
        wanted = operator == "is missing"
        return lambda codes: np.asarray(np.isnan(codes) == wanted)
    values = [value] if isinstance(value, Value) else list(value)
    return _of_values(column, operator, values, part)


def _check(column: Column, operator: Operator, value: Any, part: Part) -> None:
    """Refuse what fits no column of this kind.

    Raises:
        ValueError: It does not fit; the message says why.
    """
    listed, ordered = operator in LISTED, operator in ORDER
    problems = {
        f"a {column.kind.value} has no {part}": part and column.kind is not Kind.DATETIME,
        f"a {part} is never missing where the date is not": part and operator in GAPS,
        "the column is never missing": operator in GAPS and not column.nullable,
        "it needs a list of values": listed and not _is_list(value),
        "it needs one value": not (listed or operator in GAPS) and _is_list(value),
        "it needs two values, the first and the last": operator == "within"
        and (not _is_list(value) or len(value) != 2),
        "it needs a value": listed and _is_list(value) and not value,
        "categories have no order; use ==, !=, in or not in": ordered
        and column.kind is Kind.CATEGORY,
        "weekdays have no order; use ==, !=, in or not in": ordered and part == "weekday",
    }
    for why, wrong in problems.items():
        if wrong:
            raise _refused(column, operator, value, why)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _of_values(column: Column, operator: Operator, values: list[Value], part: Part) -> Holds:
    """A condition on values that are there."""
    try:
        spans = [_span(column, one, part) for one in values]
    except ValueError as error:
        given = values if operator in LISTED else values[0]
        raise _refused(column, operator, given, str(error)) from error
    first, last = spans[0][0], spans[-1][1]
    if operator == "within" and first > last:
        raise _refused(column, operator, values, "the first is above the last")
    if operator not in ORDER:
        _check_held(column, operator, values)
    among = _among(operator, spans)

    def holds(codes: Codes) -> NDArray[np.bool_]:
        seen = part_of(column, codes, part) if part else codes
        return np.asarray(among(seen))

    return holds


def _among(operator: Operator, spans: list[Span]) -> Callable[[NDArray[Any]], Any]:
    """Where an operator holds, of what is compared, ``(n,)``."""
    first, last = spans[0][0], spans[-1][1]
    ordered: dict[str, Callable[[NDArray[Any]], Any]] = {
        "<": lambda seen: seen < first, "<=": lambda seen: seen <= last,
        ">": lambda seen: seen > last, ">=": lambda seen: seen >= first,
        "within": lambda seen: (seen >= first) & (seen <= last),
    }  # fmt: skip
    if operator in ordered:
        return ordered[operator]

    def inside(seen: NDArray[Any]) -> Any:
        return np.logical_or.reduce([(seen >= low) & (seen <= high) for low, high in spans])

    if operator in ("==", "in"):
        return inside
    return lambda seen: ~inside(seen) & ~np.isnan(seen)


def _check_held(column: Column, operator: Operator, values: list[Value]) -> None:
    """Refuse to ask whether a value is one that the column never has, which would never hold."""
    for value in values:
        half = isinstance(value, float) and not value.is_integer()
        odd = column.kind is Kind.BOOLEAN and value not in (0, 1)
        if odd or (half and column.kind is Kind.INTEGER):
            given = values if operator in LISTED else value
            raise _refused(column, operator, given, f"{WANTED[column.kind]} is needed")


def part_of(column: Column, codes: Codes, part: Part) -> NDArray[np.float64]:
    """The hour of dates, 0 to 23, or their weekday, 0 for Monday, ``(n,)``; NaN where missing."""
    # A code stands for every time that is rounded to it: a full hour is among those of its code.
    half = np.spacing(np.abs(codes)).astype(np.float64) / 2
    days = codes.astype(np.float64) + column.origin + np.maximum(half, FLOAT64)
    if part == "hour":
        return np.asarray(np.floor(days * HOURS) % HOURS)
    return np.asarray((np.floor(days) + 3) % 7)  # 1970-01-01 was a Thursday


def _span(column: Column, value: Value, part: Part) -> Span:
    """A value as what it is compared with.

    Raises:
        ValueError: The column cannot hold it.
    """
    if part or column.kind is not Kind.DATETIME:
        bound = _bound(column, value, part)
        return bound, bound
    day = number_of(value, reader_of(column))
    if not np.isfinite(day):
        raise ValueError(f"{WANTED[column.kind]} is needed")
    first = np.float32(day - column.origin)
    if _is_day(value):
        following = np.float32(day + 1 - column.origin)
        return float(first), float(np.nextafter(following, first))
    _check_told_apart(datetime.fromisoformat(str(value)), first)
    return float(first), float(first)


def _is_day(value: Value) -> bool:
    try:
        date.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def _check_told_apart(value: datetime, code: np.float32) -> None:
    """Refuse a time that is finer than the codes around it.

    Raises:
        ValueError: It says how fine they are.
    """
    step = 1e-6 if value.microsecond else STEPS["seconds" if value.second else "minutes"]
    apart = float(np.spacing(np.abs(code))) * DAY
    if apart > step:
        unit = next(name for name, seconds in STEPS.items() if apart <= seconds)
        raise ValueError(
            f"the column keeps dates of that time to {apart:.2g} seconds; give it in whole {unit}"
        )


def _bound(column: Column, value: Value, part: Part) -> float:
    """A value as what it is compared with, of anything but a whole date.

    Raises:
        ValueError: The column cannot hold it.
    """
    if part == "weekday":
        if value not in WEEKDAYS:
            raise ValueError(f"{value!r} is no weekday; they are {', '.join(WEEKDAYS)}")
        return float(WEEKDAYS.index(str(value)))
    if part == "hour":
        if isinstance(value, str | bool) or value not in range(HOURS):
            raise ValueError(f"{value!r} is no hour from 0 to 23")
        return float(value)
    if column.kind is Kind.CATEGORY:
        return _level(column, value)
    if column.kind is Kind.BOOLEAN and isinstance(value, float):
        return value  # of a switch, 0.5 parts true from false as well
    # A rule may part whole numbers at a fraction.
    kind = Kind.NUMBER if column.kind is Kind.INTEGER else column.kind
    number = number_of(value, reader_of(column.model_copy(update={"kind": kind})))
    if kind is Kind.NUMBER and isinstance(value, float) and np.isinf(value):
        return value  # of a package of an earlier release, which took it
    if not np.isfinite(number):
        raise ValueError(f"{WANTED[kind]} is needed")
    return number - column.origin


def _level(column: Column, value: Value) -> float:
    """The place of a category; a number is told by its text, as in a file."""
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value)) if whole else str(value)
    if text not in column.levels:
        known = ", ".join(column.levels[:20]) + (", …" if len(column.levels) > 20 else "")
        raise ValueError(f"{text!r} is not one of its categories: {known}")
    return float(column.levels.index(text))


def _refused(column: Column, operator: str, value: Any, why: str) -> ValueError:
    given = "" if operator in GAPS else f" {value!r}"
    return ValueError(f"column {column.name!r} ({column.kind.value}), {operator}{given}: {why}")
