"""Training data from any library: taken as NumPy has it, and checked, whoever asks for it."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.given import array_of, column_of, is_missing, table_of
from bento_selfheal.core.records import Label
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.labelled_table import coded_table, labelled_table
from bento_selfheal.inputs.plain_table import check_names, plain_table
from bento_selfheal.inputs.table_codes import codes_of

log = logging.getLogger(__name__)

TOLD = 10
"""Most columns that an error names."""
CLASS = "a class is text, a whole number or a boolean"


@dataclass(frozen=True)
class TrainingData:
    """Rows and labels as `package_model` goes on with them."""

    rows: Any
    """``(n, features)`` of a table; the inputs of a network as they were given otherwise."""
    labels: NDArray[Any]
    features: Sequence[str]
    columns: Sequence[Column]


def take(
    rows: Any, labels: Any, features: Sequence[str], columns: Sequence[Column]
) -> TrainingData:
    """Rows and labels of any library, as `package_model` takes them.

    Raises:
        ValueError: A column or a label cannot be used; it is named.
    """
    table = table_of(rows)
    if table is None:
        if isinstance(labels, str):
            raise ValueError(
                f"labels: {labels!r} is the name of a column, but rows are no table of pandas, "
                "polars or Arrow"
            )
        array = array_of(rows)
        return TrainingData(
            rows if array is None else array, checked_labels(labels), features, columns
        )
    try:
        return _of_table(table, labels, features, columns)
    except SettingsError as error:
        raise ValueError(f"rows: {error}") from error


def _of_table(
    table: Any, labels: Any, features: Sequence[str], columns: Sequence[Column]
) -> TrainingData:
    label = labels if isinstance(labels, str) else None
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise SettingsError(f"the column {twice[0]!r} occurs more than once")
    names = list(features) or [column.name for column in columns]
    if label in names:
        raise SettingsError(f"the label {label!r} is one of the features")
    if names:
        wanted = names if label is None else [*names, label]
        check_names(table, wanted)
        table = table.select(wanted)
    notes: list[str] = []
    if not columns:
        table = plain_table(table, notes)
    if label is None:
        made, own = coded_table(table, columns or None), checked_labels(labels)
    else:
        made = labelled_table(table, label, columns=columns or None)
        own = made.labels
    for note in (*notes, *made.notes):
        log.info("%s", note)
    return TrainingData(made.rows, own, list(features) or made.features, made.columns)


def checked_labels(labels: Any) -> NDArray[Any]:
    """Labels of rows, ``(n,)``, as numbers or text: of a list, an array, a tensor or a column.

    Raises:
        ValueError: One is missing or no class; its row and value are named.
    """
    array = array_of(labels)
    if array is not None and (array.dtype.kind in "biuU" or array.ndim != 1):
        return array
    column = None if array is not None else column_of(labels)
    if array is None and column is None and not isinstance(labels, Sequence):
        raise ValueError(f"labels: one for each row is needed, got {labels!r:.80}")
    values = labels if column is None else column.to_pylist()
    return np.asarray([_class(value, row) for row, value in enumerate(values)])


def _class(value: Any, row: int) -> Any:
    """A label as a number, a boolean or a text."""
    if is_missing(value):
        raise ValueError(f"labels: row {row} has none; leave the row out")
    array = array_of(value)
    if (array is not None and not array.ndim) or isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float | Decimal):
        if not math.isfinite(value) or value != int(value):
            raise ValueError(f"labels: row {row} is {value}, a number that is not whole; {CLASS}")
        return int(value)
    if not isinstance(value, int | str):
        what = type(value).__name__
        raise ValueError(f"labels: row {row} is {value!r:.80} of type {what}; {CLASS}")
    return value


def check_rows(
    rows: Any, features: Sequence[str], columns: Sequence[Column] = ()
) -> NDArray[np.float32]:
    """Training rows as float32, ``(n, features)``; NaN only where a column may be empty.

    Raises:
        ValueError: They are not numbers, not finite, or do not match the features; or two
            features share a name. Every column that is not finite is named with its first such row.
        SettingsError: The columns of a table are not the features, or cannot hold their values.
    """
    names = list(features)
    if len(set(names)) < len(names):
        raise ValueError(f"features: names occur more than once in {names}")
    if (table := table_of(rows)) is not None:
        rows = codes_of(table, columns or [Column(name=name) for name in names])
    elif (array := array_of(rows)) is not None:
        rows = array
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is refused below
            x = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rows: not all are numbers: {error}") from error
    _check_shape(x.shape, len(names))
    may_be_empty = np.asarray([column.nullable for column in columns] or [False] * len(names))
    bad = ~(np.isfinite(x) | (np.isnan(x) & may_be_empty))
    first = {int(place): int(bad[:, place].argmax()) for place in np.flatnonzero(bad.any(axis=0))}
    if first:
        told = [f"row {row}, {names[place]} is {x[row, place]}" for place, row in first.items()]
        more = f"; and {len(told) - TOLD:,} columns more" if len(told) > TOLD else ""
        raise ValueError("rows: " + "; ".join(told[:TOLD]) + more)
    return x


def _check_shape(shape: tuple[int, ...], features: int) -> None:
    if len(shape) > 2:
        one = shape[1:]
        raise ValueError(
            f"rows: shape {shape} is no table {(shape[0], features)}: pass"
            f" rows.reshape(len(rows), -1), name its {math.prod(one)} columns, and let the model"
            f" of your builder begin with torch.nn.Unflatten(1, {one})"
        )
    if len(shape) == 2 and not features:
        raise ValueError(f"features: there are none; name the {shape[1]} columns of the rows")
    if len(shape) != 2 or shape[1] != features:
        raise ValueError(f"rows: shape {shape} does not match {features} features")


def classes_of(labels: Sequence[Label] | NDArray[Any]) -> list[Label]:
    """The classes that occur, in their order."""
    return [as_label(value) for value in np.unique(np.asarray(labels))]


def as_label(value: Any) -> Label:
    """A class as JSON holds it: whole numbers as int, everything else as text."""
    if isinstance(value, np.bool_ | np.integer) or (
        isinstance(value, np.floating) and float(value).is_integer()
    ):
        return int(value)
    return str(value)
