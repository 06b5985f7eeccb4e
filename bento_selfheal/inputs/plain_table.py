"""Columns of a table as a CSV file would give them: plain types, null where one is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.text_values import is_text, markers_in, typed, without_markers


def check_names(table: pa.Table, names: Sequence[str]) -> None:
    """Refuse names that no column of a table has, all at once.

    Raises:
        SettingsError: Names them, and the columns.
    """
    absent = [repr(name) for name in names if name not in table.column_names]
    if absent:
        what = "columns {} are" if len(absent) > 1 else "column {} is"
        said = what.format(", ".join(absent))
        raise SettingsError(f"{said} not there; columns: {table.column_names}")


def plain_table(table: pa.Table, notes: list[str]) -> pa.Table:
    """A table without dictionaries, with null for NaN and for missing markers; text that is numbers
    or dates throughout becomes that.

    Args:
        table: Its columns have different names.
        notes: Is told what was read otherwise than it stands there.
    """
    found: Counter[str] = Counter()
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        columns.append(_plain(column, found))
        if is_text(column.type) and not is_text(columns[-1].type):
            notes.append(f"column {name!r}: text, read as {columns[-1].type}")
    note_markers(found, notes)
    return pa.table(columns, names=table.column_names)


def _plain(column: pa.ChunkedArray, found: Counter[str]) -> pa.ChunkedArray:
    column = without_runs(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
        if is_text(column.type):
            found += markers_in(column)
            # Its writer declared categories: they stay text, even where each is a number.
            return without_markers(column)
    if is_text(column.type):
        found += markers_in(column)
        return typed(without_markers(column))
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())  # Arrow compares no half floats
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def without_runs(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with a value for each row, also where it is one of runs."""
    if not pa.types.is_run_end_encoded(column.type):
        return column
    whole = [pc.run_end_decode(chunk) for chunk in column.chunks]
    return pa.chunked_array(whole, column.type.value_type)


def note_markers(found: Counter[str], notes: list[str]) -> None:
    """Tell how often each missing marker was found."""
    if found:
        counts = [
            f"{repr(marker) if marker else 'empty'} ({count:,})"
            for marker, count in found.most_common()
        ]
        notes.append(f"missing values: {', '.join(counts)}")
