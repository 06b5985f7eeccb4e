"""The labels of a table: which rows have one, and that they are classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.plain_table import check_names
from bento_selfheal.inputs.text_values import is_text, without_markers

MOST_NUMBERS = 50
"""More different floats than this are a quantity to predict, not classes."""


def labels_of(table: pa.Table, label: str) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """The labels of the rows that have one, and which rows these are.

    Returns:
        Labels ``(k,)``, int64 or text; 0 and 1 for booleans. A mask of all rows ``(n,)``, with
        ``k`` true: a missing label is no class.

    Raises:
        SettingsError: The column is not there, is empty, or its values are no classes.
    """
    check_names(table, [label])
    column = table.column(label)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if is_text(column.type):
        column = without_markers(column)
    elif pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    known = column.drop_null()
    if not len(known):
        raise SettingsError(f"column {label!r}: no row has a label")
    return _classes(known, label), column.is_valid().to_numpy()


def _classes(known: pa.ChunkedArray, label: str) -> NDArray[np.generic]:
    kind = known.type
    if is_text(kind):
        return np.array(known.to_pylist(), dtype=np.str_)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        _check_whole(known, label)
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise _refused(label, known[0].as_py(), f"a value of type {kind}")
    try:
        out: NDArray[np.int64] = known.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise SettingsError(f"column {label!r}: {error}") from error
    return out


def _check_whole(known: pa.ChunkedArray, label: str) -> None:
    """Refuse quantities, and numbers that no class can be named by."""
    distinct = known.unique()
    if len(distinct) > MOST_NUMBERS:
        raise SettingsError(
            f"column {label!r} has {len(distinct):,} different numbers, such as {known[0].as_py()}:"
            " it is a regression target, and classes are needed"
        )
    for value in distinct.to_pylist():
        if not np.isfinite(float(value)) or value != int(value):
            raise _refused(label, value, "a number that is not whole")


def _refused(label: str, value: Any, what: str) -> SettingsError:
    return SettingsError(
        f"column {label!r}: the label {value!r} is {what}; a class is text, a whole number or a"
        " boolean"
    )
