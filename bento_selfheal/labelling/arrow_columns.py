"""Columns of Arrow as lists of Python's values.

This module imports pyarrow, and is imported where the first Parquet file or stream is read.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def listed(column: pa.Array | pa.ChunkedArray, name: str) -> list[Any]:
    """The values of a column.

    One that many rows share through a dictionary is made once: a small file may say that each of
    its rows holds the same ten million characters.

    Raises:
        ValueError: Python cannot hold one of them, or the column is one of runs.
    """
    try:
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return [value for chunk in chunks for value in _values(chunk)]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"column {name!r}: {error}") from error


def _values(array: pa.Array) -> list[Any]:
    if pa.types.is_run_end_encoded(array.type):
        raise ValueError("a column of runs is not read here; decode it")
    if pa.types.is_dictionary(array.type):
        known = _values(array.dictionary)
        return [None if i is None else known[i] for i in array.indices.to_pylist()]
    if pa.types.is_timestamp(array.type):
        # Of nanoseconds Python has none.
        array = pc.cast(array, pa.timestamp("us", array.type.tz), safe=False)
    values: list[Any] = array.to_pylist()
    return values
