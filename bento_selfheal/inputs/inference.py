"""Finds out what the columns of a table are, and which are better left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.plain_table import check_names, without_runs
from bento_selfheal.inputs.text_values import is_text

DAY = 86_400e6
"""Microseconds."""
DIFFERENT = 0.95
"""Share of different texts from which on a column tells rows apart rather than describes them."""
MOSTLY, FEW = 0.9, 10
"""Share of texts that are written alike, and how many different ones may also be names, as of sizes
or shelves."""
LEAST_ROWS = 20
"""Of fewer rows, all being different says nothing."""
LARGEST = float(np.finfo(np.float32).max)
NUMBER = r"^[+-]?\d+([.,]\d+)?$"
AMOUNT = r"(\d{1,3}([., '\x{2019}]\d{3})+|\d+)([.,]\d+)?"
MARKED_NUMBER = (
    rf"^[+-]?(\p{{Sc}}\s?[+-]?{AMOUNT}|{AMOUNT}(\s?[%‰\p{{Sc}}]|\s[A-Za-zµ°]{{1,3}})"
    r"|\d{1,3}([, '\x{2019}]\d{3})+([.,]\d+)?)$"
)
"""A number with the sign of a currency, a percent sign or a unit, or grouped by thousands."""
OTHER_DATE = r"^(\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{4}[./]\d{1,2}[./]\d{1,2})([ T,]|$)"
"""A date that is not written as ISO 8601 has it; whether day or month is first, none can tell."""


@dataclass(frozen=True)
class Inferred:
    """The features of a table.

    Attributes:
        columns: In the order of the file.
        suspects: By column why it is better left out, in a sentence.
    """

    columns: tuple[Column, ...]
    suspects: dict[str, str]


def infer(table: pa.Table, label: str | None, drop: Sequence[str] = ()) -> Inferred:
    """The types of all columns but the label and those to leave out.

    Every column is nullable: what was never missing so far may be one day. Whole numbers are
    numbers, as the next one may not be whole. Levels stand in the order in which they first come,
    so that those of a table's beginning are the first ones.

    Raises:
        SettingsError: A column is not there, none is left, or some have types or values that no
            input can have; the message names them all.
    """
    left_out = [name for name in (label, *drop) if name is not None]
    check_names(table, left_out)
    names = [name for name in table.column_names if name not in left_out]
    if not names:
        raise SettingsError(f"no column is left besides {left_out}")
    values = {name: _plain(table.column(name)) for name in names}
    problems = [why for name in names if (why := _problem(values[name], name))]
    if problems:
        raise SettingsError("; ".join(problems))
    reasons = {name: _suspect(values[name], name) for name in names}
    return Inferred(
        tuple(_column(values[name], name) for name in names),
        {name: why for name, why in reasons.items() if why},
    )


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """No runs, no dictionary, and null for NaN."""
    values = without_runs(values)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return values


def _kind(of: pa.DataType) -> Kind | None:
    if pa.types.is_boolean(of):
        return Kind.BOOLEAN
    # A column that is empty so far has some number one day; a text would have to be known.
    if pa.types.is_integer(of) or pa.types.is_floating(of):
        return Kind.NUMBER
    if pa.types.is_decimal(of) or pa.types.is_null(of):
        return Kind.NUMBER
    if pa.types.is_date(of) or pa.types.is_timestamp(of):
        return Kind.DATETIME
    return Kind.CATEGORY if is_text(of) else None


def _problem(values: pa.ChunkedArray, name: str) -> str:
    if _kind(values.type) is None:
        return f"column {name!r} has type {values.type}, which no input has: leave it out (--drop)"
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        large = np.flatnonzero(np.abs(_wide(values)) > LARGEST)
        if len(large):
            row = int(large[0])
            return f"column {name!r}: row {row} is {values[row].as_py()}, too large for float32"
    return ""


def _column(values: pa.ChunkedArray, name: str) -> Column:
    kind = _kind(values.type) or Kind.NUMBER
    known = values.drop_null()
    levels: tuple[str, ...] = ()
    origin = 0.0
    if kind is Kind.CATEGORY:
        levels = tuple(known.unique().to_pylist())
    elif kind is Kind.DATETIME and len(known):
        origin = _wide(known.slice(0, 1).cast(pa.timestamp("us"), safe=False))[0] / DAY
    elif kind is Kind.NUMBER:
        whole = pa.types.is_integer(values.type)
        origin = _origin(known.to_numpy() if whole else _wide(known), whole)
    return Column(name=name, kind=kind, nullable=True, levels=levels, origin=float(origin))


def _origin(known: NDArray[np.number], whole: bool) -> float:
    """The median where float32 makes different values equal, else 0."""
    distinct = np.unique(known)
    with np.errstate(over="ignore"):
        kept = len(np.unique(distinct.astype(np.float32)))
    # Of fractions, some few always fall together.
    if kept >= len(distinct) * (1.0 if whole else 0.99):
        return 0.0
    middle = float(np.median(known))
    return float(round(middle)) if whole else middle


def _suspect(values: pa.ChunkedArray, name: str) -> str:
    known = values.drop_null()
    distinct = known.unique()
    if not len(known):
        return "it has no values"
    if len(distinct) == 1 and not values.null_count:
        return f"every value is {known[0].as_py()!r}"
    if counts_rows(values):
        return "it counts the rows, as the index of a data frame does"
    if not name or name.startswith(("Unnamed: ", "__index_level_")):
        return "it has no name of its own, as the index of a data frame"
    if is_text(values.type):
        return _suspect_text(known, len(distinct))
    if pa.types.is_integer(values.type) and len(known) == len(distinct) >= LEAST_ROWS:
        # As integers: float64 would make neighbours among 64-bit ids equal.
        whole = known.to_numpy()
        if (whole[1:] > whole[:-1]).any() and (whole[1:] < whole[:-1]).any():
            return "its whole numbers are all different and in no order, as ids are"
    return ""


def _suspect_text(known: pa.ChunkedArray, distinct: int) -> str:
    numbers = pc.match_substring_regex(known, NUMBER)
    if MOSTLY <= _share(numbers) < 1:
        odd = known.filter(pc.invert(numbers))
        return f"it would be numbers, but {len(odd):,} values are not, such as {odd[0].as_py()!r}"
    if _share(pc.match_substring_regex(known, OTHER_DATE)) >= MOSTLY:
        return f"dates such as {known[0].as_py()!r} are read as text: write them as 2026-11-28"
    marked = pc.match_substring_regex(known, MARKED_NUMBER)
    if distinct > FEW and pc.any(marked).as_py() and _share(pc.or_(marked, numbers)) >= MOSTLY:
        shown = known.filter(marked)[0].as_py()
        return f"numbers such as {shown!r} are read as text: write them as plain numbers"
    if distinct < DIFFERENT * len(known) or len(known) < LEAST_ROWS:
        return ""
    what = "free text" if _share(pc.match_substring(known, " ")) > 0.5 else "an id"
    return f"{distinct:,} of {len(known):,} texts are different: {what}"


def _share(truths: pa.ChunkedArray) -> float:
    return float(pc.mean(truths).as_py())


def counts_rows(values: pa.ChunkedArray) -> bool:
    """Whether a column is 0, 1, 2, … or 1, 2, 3, …, as a data frame writes its index."""
    if not pa.types.is_integer(values.type) or values.null_count or len(values) < 2:
        return False
    return values[0].as_py() in (0, 1) and bool((np.diff(_wide(values)) == 1).all())


def _wide(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Float64, ``(n,)``; NaN where one is missing; a date in microseconds."""
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    out: NDArray[np.float64] = values.cast(pa.float64(), safe=False).to_numpy()
    return out
