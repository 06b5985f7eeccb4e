"""Turns the columns of a table into codes, each value as the same one in JSON would be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import ORDERED, Column, Kind
from bento_selfheal.inputs.plain_table import check_names
from bento_selfheal.inputs.schema import DAY, EPOCH, Misfit, Schema, number_of, reader_of
from bento_selfheal.inputs.text_values import is_text

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
FIRST_DAY = (date.min - EPOCH.date()).days
LAST_DAY = (date.max - EPOCH.date()).days
"""Since 1970-01-01: what JSON can hold, years 1 to 9999."""
SHOWN_BYTES = 100


def codes_of(table: pa.Table, columns: Sequence[Column]) -> NDArray[np.float32]:
    """The codes of all rows, ``(n, columns)``.

    Raises:
        SettingsError: Columns are not there, or cannot hold their values; the message names each
            with its first such row.
    """
    check_names(table, [column.name for column in columns])
    codes, problems = [], []
    for column in columns:
        try:
            codes.append(read_codes(table, Schema([column])))
        except Misfit as misfit:
            value = "missing" if misfit.value is None else repr(misfit.value)
            problems.append(
                f"column {column.name!r}: row {misfit.row} is {value}, {misfit.wanted} is needed"
            )
    if problems:
        raise SettingsError("; ".join(problems))
    return np.concatenate(codes, axis=1)


def read_codes(table: pa.Table, schema: Schema) -> NDArray[np.float32]:
    """The codes of a table's rows, ``(n, columns)``, by the names of the columns.

    Args:
        table: It has each of the columns, in any order.
        schema: The columns.

    Raises:
        Misfit: A column cannot hold its value; the first of the first row is named.
    """
    own = [table.column(column.name) for column in schema.columns]
    wide = np.empty((table.num_rows, len(own)))
    for i, values in enumerate(own):
        wide[:, i] = _numbers(values, schema.columns[i])
    return schema.coded(wide, lambda row, place: _shown(own[place][row]))


def is_plain(columns: Sequence[Column], codes: NDArray[np.float32]) -> bool:
    """Whether all are numbers without gaps, for which no type is needed."""
    numbers = all(c.kind is Kind.NUMBER and not c.origin for c in columns)
    return numbers and not bool(np.isnan(codes).any())


def known_levels(columns: Sequence[Column], codes: NDArray[np.float32]) -> tuple[Column, ...]:
    """The columns as the rows of these codes ``(n, columns)`` know them: levels that only come
    later are unseen."""
    out = []
    for column, own in zip(columns, codes.T, strict=True):
        if column.kind is Kind.CATEGORY:
            known = own[own < len(column.levels)]
            last = int(known.max(initial=-1))
            column = column.model_copy(update={"levels": column.levels[: last + 1]})
        out.append(column)
    return tuple(out)


def _numbers(values: pa.ChunkedArray, column: Column) -> NDArray[np.float64]:
    """The values of a column as numbers: NaN where one is missing, infinite where it is none."""
    kind, wanted = values.type, column.kind
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if wanted is Kind.DATETIME and _is_moment(kind):
        return _days(values)
    if wanted is Kind.BOOLEAN and pa.types.is_boolean(kind):
        return _wide(pc.cast(values, pa.int8()))
    if wanted in ORDERED and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return _held(_wide(values), wanted)
    return np.concatenate([np.empty(0), *(_by_value(chunk, column) for chunk in values.chunks)])


def _held(wide: NDArray[np.float64], wanted: Kind) -> NDArray[np.float64]:
    """Numbers, infinite where they are of another kind than is wanted."""
    fits = np.isnan(wide) | (wanted is Kind.NUMBER)
    if wanted is Kind.INTEGER:
        fits |= wide == np.floor(wide)
    elif wanted is Kind.BOOLEAN:
        fits |= (wide == 0) | (wide == 1)
    return np.where(fits, wide, np.inf)


def _by_value(chunk: pa.Array, column: Column) -> NDArray[np.float64]:
    """The numbers of values that Python reads one by one, each different one once."""
    small = pa.types.is_decimal32(chunk.type) or pa.types.is_decimal64(chunk.type)
    if small and _has_values(chunk.type):
        chunk = chunk.cast(pa.decimal128(38, chunk.type.scale))  # Arrow encodes no others
    if pa.types.is_run_end_encoded(chunk.type):
        return _of_runs(chunk, column)
    encoded = pa.types.is_dictionary(chunk.type)
    if not encoded and not _has_values(chunk.type):
        return np.where(chunk.is_null().to_numpy(zero_copy_only=False), np.nan, np.inf)
    chunk = chunk if encoded else chunk.dictionary_encode()
    missing = chunk.indices.is_null().to_numpy(zero_copy_only=False)
    places = chunk.indices.fill_null(0).to_numpy(zero_copy_only=False)
    out = np.full(len(chunk), np.nan)
    # Of a dictionary only what is used: it may hold far more than there are rows.
    used, where = np.unique(places[~missing], return_inverse=True)
    out[~missing] = _of_levels(chunk.dictionary, pa.array(used), column)[where]
    return out


def _of_levels(levels: pa.Array, used: pa.Array, column: Column) -> NDArray[np.float64]:
    """The numbers of some levels of a dictionary."""
    if column.kind is Kind.DATETIME and _is_moment(levels.type):
        return _days(pa.chunked_array([levels.take(used)]))
    if not _has_values(levels.type):
        return np.full(len(used), np.inf)
    if pa.types.is_string_view(levels.type):
        levels = levels.cast(pa.large_string())  # Arrow cannot take values of views
    read = reader_of(column)
    known = [number_of(value, read) for value in levels.take(used).to_pylist()]
    return np.asarray(known, np.float64)


def _of_runs(chunk: pa.Array, column: Column) -> NDArray[np.float64]:
    """The numbers of values that repeat: each run is read once, and no value is copied."""
    rows = np.arange(len(chunk)) + chunk.offset
    run = np.searchsorted(chunk.run_ends.to_numpy(), rows, side="right")
    if not len(run):
        return np.empty(0)
    values = chunk.values.slice(run[0], run[-1] + 1 - run[0])
    out: NDArray[np.float64] = _numbers(pa.chunked_array([values]), column)[run - run[0]]
    return out


def _is_moment(kind: pa.DataType) -> bool:
    """Whether a column of this type holds dates or times on them."""
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _has_values(kind: pa.DataType) -> bool:
    """Whether Python has values of a type that a column could hold."""
    if pa.types.is_decimal(kind):  # Python reads none whose point is farther away
        return bool(abs(kind.scale) <= (76 if pa.types.is_decimal256(kind) else 38))
    return bool(
        is_text(kind) or pa.types.is_boolean(kind)
        or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )  # fmt: skip


def _days(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Days since the epoch; what is shorter than a microsecond is cut off, as of JSON."""
    if pa.types.is_date(values.type):
        days = _wide(pc.cast(values, pa.date32()).cast(pa.int32()))
    else:
        unit = values.type.unit
        ticks, missing = pc.cast(values, pa.int64()), values.is_null().to_numpy()
        whole = ticks.fill_null(0).to_numpy()
        if unit == "ns":
            whole, unit = whole // 1000, "us"
        days = np.where(missing, np.nan, whole / PER_SECOND[unit] / DAY)
    return np.where((days < FIRST_DAY) | (days >= LAST_DAY + 1), np.inf, days)


def _wide(values: pa.ChunkedArray) -> NDArray[np.float64]:
    out: NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy()
    return out


def _shown(value: pa.Scalar) -> Any:
    """A value as an error shows it; of what no column holds, its type."""
    kind = value.type
    if pa.types.is_run_end_encoded(kind):
        return _shown(value.value)
    if not value.is_valid:
        return None
    if pa.types.is_dictionary(kind):
        return _shown(value.dictionary[value.index.as_py()])
    if _is_moment(kind):
        return _told_time(value)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return value.as_py()[:SHOWN_BYTES]
    return value.as_py() if _has_values(kind) else f"a value of type {kind}"


def _told_time(value: pa.Scalar) -> str:
    """A date or time as text; where a zone or a year cannot be written, its ticks."""
    try:
        return str(pc.cast(value, pa.string()).as_py())
    except pa.ArrowException:
        return f"{value.value} ({value.type})"
