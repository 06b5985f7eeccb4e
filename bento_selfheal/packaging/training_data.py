"""Checks of training data, whoever asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bento_selfheal.core.records import Label
from bento_selfheal.inputs.column import Column

TOLD = 10
"""Most columns that an error names."""


def check_rows(
    rows: ArrayLike, features: Sequence[str], columns: Sequence[Column] = ()
) -> NDArray[np.float32]:
    """Training rows as float32, ``(n, features)``; NaN only where a column may be empty.

    Raises:
        ValueError: They are not numbers, not finite, or do not match the features; or two
            features share a name. Every column that is not finite is named with its first such row.
    """
    names = list(features)
    if len(set(names)) < len(names):
        raise ValueError(f"features: names occur more than once in {names}")
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
