"""Checks of training data, whoever asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bento_selfheal.core.records import Label
from bento_selfheal.inputs.column import Column


def check_rows(
    rows: ArrayLike, features: Sequence[str], columns: Sequence[Column] = ()
) -> NDArray[np.float32]:
    """Training rows as float32, ``(n, features)``; NaN only where a column may be empty.

    Raises:
        ValueError: They are not numbers, not finite, or do not match the features; or two
            features share a name.
    """
    names = list(features)
    if len(set(names)) < len(names):
        raise ValueError(f"features: names occur more than once in {names}")
    try:
        with np.errstate(over="ignore"):  # what is too large for float32 is refused below
            x = np.asarray(rows, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"rows: not all are numbers: {error}") from error
    if x.ndim != 2 or x.shape[1] != len(names):
        raise ValueError(f"rows: shape {x.shape} does not match {len(names)} features")
    may_be_empty = np.asarray([column.nullable for column in columns] or [False] * len(names))
    bad = np.argwhere(~(np.isfinite(x) | (np.isnan(x) & may_be_empty)))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"rows: row {row}, {names[column]} is {x[row, column]}")
    return x


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
