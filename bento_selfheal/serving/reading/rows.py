"""Rows from outside: checked, or refused with the field and the value named."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.serving.reading.refusals import refuse_names
from bento_selfheal.wire import npy

NUMBERS = {int, float}
ROWS, ROWS_AND_KEYS = {"rows"}, {"rows", "keys"}


class RowReader:
    """Turns rows as JSON gives them into float32.

    Args:
        features: Names in the order of the columns.
        max_rows: Most rows that one request may carry.

    Attributes:
        max_rows: The same.
        schema: The columns.
    """

    def __init__(self, features: Sequence[str], max_rows: int) -> None:
        self._features = list(features)
        self._known = set(features)
        self.max_rows = max_rows
        self.schema = Schema([Column(name=name) for name in features])

    def read(self, rows: Any, field: str = "rows") -> NDArray[np.float32]:
        """Lists in the order of the features, or objects by feature name → ``(n, features)``.

        A service that depends on this one may also hand over an array.

        Raises:
            InvalidInput: Names the row, the field and the value.
        """
        if isinstance(rows, np.ndarray):
            return self._table(rows, field)
        if not isinstance(rows, list):
            raise InvalidInput((field,), f"a list of rows is needed, got {shown(rows)}", "type")
        check_count(len(rows), self.max_rows, field)
        if isinstance(rows[0], dict):
            rows = [self._in_order(row, (field, i)) for i, row in enumerate(rows)]
        return self._numbers(rows, field)

    def read_json(self, body: bytes) -> tuple[NDArray[np.float32], Any] | None:
        """``{"rows": …, "keys": …}`` → ``(n, features)``, and the keys as they are given, or None.

        None for a body that is not of that shape.

        Raises:
            InvalidInput: Names the row, the field and the value.
        """
        if (given := rows_alone(body)) is None:
            return None
        rows, keys = given["rows"], given.get("keys")
        if body.count(b'"') == _quotes(given) and b"true" not in body and b"false" not in body:
            # Nothing but numbers, lists and nulls: numpy may turn them into float32 unseen.
            values = self._fitting(rows)
            if values is not None:
                return values, keys
        return self.read(rows), keys

    def read_npy(self, body: bytes) -> NDArray[np.float32]:
        """A NumPy array file of numbers ``(n, features)``.

        Raises:
            InvalidInput: It is no such file, or names the row, the field and the value.
        """
        return self._table(read_array(body), "body")

    def read_one(self, row: Any, loc: tuple[str | int, ...]) -> NDArray[np.float32]:
        """One row → ``(features,)``.

        Raises:
            InvalidInput: Names the field and the value.
        """
        if isinstance(row, dict):
            row = self._in_order(row, loc)
        self._check_row(row, loc)
        return np.asarray(row, dtype=np.float32)

    def _table(self, table: NDArray[Any], field: str) -> NDArray[np.float32]:
        """An array of numbers ``(n, features)``."""
        self._check_numbers(table, field)
        with np.errstate(over="ignore"):
            values = np.array(table, dtype=np.float32, order="C")  # what came in is read-only
        bad = _first_infinite(values) if values.shape[1] == len(self._features) else 0
        if bad is not None:
            self._check_row(table[bad].tolist(), ("rows", bad))
        return values

    def _check_numbers(self, table: NDArray[Any], field: str) -> None:
        if table.dtype.kind not in "fiu" or table.ndim != 2:
            what = f"{table.dtype} {table.shape}"
            raise InvalidInput((field,), f"numbers (n, features) are needed, got {what}", "npy")
        check_count(len(table), self.max_rows, "rows")

    def _fitting(self, rows: Any) -> NDArray[np.float32] | None:
        """Rows that hold numbers, lists and nulls alone; None where they need a second look."""
        try:
            if not 0 < len(rows) <= self.max_rows:
                return None
            with np.errstate(over="ignore"):
                values = np.array(rows, dtype=np.float32)
        except (ValueError, TypeError, OverflowError):
            return None
        if values.shape != (len(rows), len(self._features)):
            return None
        if (bad := _first_infinite(values)) is not None:  # a null is NaN here
            self._check_row(rows[bad], ("rows", bad))
        return values

    def _fits(self, values: NDArray[np.float32], rows: int) -> bool:
        return values.shape == (rows, len(self._features)) and bool(np.isfinite(values).all())

    def _numbers(self, rows: list[Any], field: str) -> NDArray[np.float32]:
        """Good rows as a whole; only where that fails, one by one."""
        try:
            # numpy would count True among numbers as 1, and turn all into text beside one text.
            plain = NUMBERS.issuperset(map(type, chain.from_iterable(rows)))
            table = np.array(rows) if plain else None
            with np.errstate(over="ignore"):
                fits = table is not None and table.dtype.kind in "fi"
                values = table.astype(np.float32) if table is not None and fits else None
        except (ValueError, TypeError):
            values = None
        if values is not None and self._fits(values, len(rows)):
            return values
        for i, row in enumerate(rows):
            if not self._is_good(row):
                self._check_row(row, (field, i))
        # Mixed numbers that numpy cannot hold together, such as very large integers.
        return np.array([[float(v) for v in row] for row in rows], dtype=np.float32)

    def _is_good(self, row: Any) -> bool:
        """Whether a row is surely good, told by numpy; a bad one is then looked at by value."""
        if type(row) is not list or len(row) != len(self._features):
            return False
        try:
            with np.errstate(over="ignore"):
                values = np.array(row, dtype=np.float64).astype(np.float32)
        except (ValueError, TypeError, OverflowError):
            return False
        return NUMBERS.issuperset(map(type, row)) and bool(np.isfinite(values).all())

    def _check_row(self, row: Any, loc: tuple[str | int, ...]) -> None:
        """Refuse a bad row with its first bad value."""
        self._check_width(row, loc)
        for name, value in zip(self._features, row, strict=True):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidInput((*loc, name), f"a number is needed, got {shown(value)}", "type")
            if not _is_float32(value):
                raise InvalidInput(
                    (*loc, name), f"a finite number is needed, got {shown(value)}", "not_finite"
                )

    def _check_width(self, row: Any, loc: tuple[str | int, ...]) -> None:
        if not isinstance(row, list):
            raise InvalidInput(loc, f"a row is a list or an object, got {shown(row)}", "type")
        if len(row) != len(self._features):
            raise InvalidInput(
                loc, f"{len(row)} values, the model has {len(self._features)} features", "width"
            )

    def _in_order(self, row: Any, loc: tuple[str | int, ...]) -> list[Any]:
        if not isinstance(row, dict):
            raise InvalidInput(loc, f"rows mix objects with {shown(row)}", "type")
        if row.keys() != self._known:
            refuse_names(row, self._features, loc)
        return [row[name] for name in self._features]


def rows_alone(body: bytes) -> dict[str, Any] | None:
    """The body of a request that has rows, or rows and keys; None for any other."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return given if isinstance(given, dict) and given.keys() in (ROWS, ROWS_AND_KEYS) else None


def _quotes(given: dict[str, Any]) -> int:
    """Quotation marks in a body outside of its rows, at the least: two for each name and text."""
    keys = given.get("keys")
    texts = list(map(type, keys)).count(str) if isinstance(keys, list) else 0
    return 2 * len(given) + 2 * texts


def check_count(rows: int, most: int, field: str) -> None:
    """Refuse a request of no rows, or of too many.

    Raises:
        InvalidInput: Names the field.
    """
    if not rows:
        raise InvalidInput((field,), "the batch is empty", "empty")
    if rows > most:
        raise InvalidInput((field,), f"{rows} rows are over the limit of {most}", "too_many")


def read_array(body: bytes) -> NDArray[Any]:
    """The array of a NumPy file.

    Raises:
        InvalidInput: It is no such file.
    """
    try:
        return npy.read(body)
    except ValueError as error:
        raise InvalidInput(("body",), f"not a .npy file of numbers: {error}", "npy") from error


def _first_infinite(values: NDArray[np.float32]) -> int | None:
    """The first row with a value that is not finite; None where all are."""
    finite = np.isfinite(values)
    return None if finite.all() else int(finite.all(axis=1).argmin())


def _is_float32(value: float) -> bool:
    """Whether a number is finite and stays so as float32."""
    try:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.float32(value)))
    except OverflowError:
        return False
