"""Turns the columns of a table into codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.table_file import check_names

DAY = 86_400e6
"""Microseconds."""
TYPES = {
    Kind.NUMBER: pa.float64(), Kind.INTEGER: pa.int64(), Kind.BOOLEAN: pa.bool_(),
    Kind.CATEGORY: pa.string(), Kind.DATETIME: pa.timestamp("us"),
}  # fmt: skip


def codes_of(table: pa.Table, columns: Sequence[Column]) -> NDArray[np.float32]:
    """The codes of all rows, ``(n, columns)``.

    Raises:
        SettingsError: Columns are not there, or cannot hold their values; the message names each.
    """
    check_names(table, [column.name for column in columns])
    codes, problems = [], []
    for column in columns:
        try:
            codes.append(_codes(table, column))
        except SettingsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError("; ".join(problems))
    return np.stack(codes, axis=1)


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


def _codes(table: pa.Table, column: Column) -> NDArray[np.float32]:
    values = table.column(column.name)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    try:
        held = pc.cast(values, TYPES[column.kind], safe=column.kind is not Kind.DATETIME)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SettingsError(f"column {column.name!r} is no {column.kind.value}: {error}") from error
    if held.null_count and not column.nullable:
        row = int(np.flatnonzero(held.is_null().to_numpy())[0])
        raise SettingsError(f"column {column.name!r}: row {row} is missing, and may not be")
    if column.kind is Kind.CATEGORY:
        return _levels(held, column)
    if column.kind is Kind.DATETIME:
        return (_wide(held.cast(pa.int64())) / DAY - column.origin).astype(np.float32)
    return _finite(_wide(held), column)


def _levels(text: pa.ChunkedArray, column: Column) -> NDArray[np.float32]:
    place = pc.index_in(text, value_set=pa.array(column.levels, pa.string()))
    codes = _wide(pc.fill_null(place, len(column.levels)))
    return np.where(text.is_null().to_numpy(), np.nan, codes).astype(np.float32)


def _finite(wide: NDArray[np.float64], column: Column) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        codes = (wide - column.origin).astype(np.float32)
    bad = np.flatnonzero(np.isinf(codes))
    if len(bad):
        raise SettingsError(f"column {column.name!r}: row {bad[0]} is {wide[bad[0]]}, too large")
    return codes


def _wide(values: pa.ChunkedArray) -> NDArray[np.float64]:
    out: NDArray[np.float64] = pc.cast(values, pa.float64(), safe=False).to_numpy()
    return out
