"""Rows of typed columns from outside: each value checked by its column, and made a code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput
from bento_selfheal.inputs.column import ORDERED, Column
from bento_selfheal.inputs.schema import Misfit, Schema
from bento_selfheal.serving.reading.rows import RowReader, rows_alone


class TypedRowReader(RowReader):
    """Turns rows of numbers, categories, dates and gaps into codes, ``(n, columns)``.

    Args:
        columns: The columns, in the order of the features.
        max_rows: Most rows that one request may carry.
    """

    def __init__(self, columns: Sequence[Column], max_rows: int) -> None:
        super().__init__([column.name for column in columns], max_rows)
        self.schema = Schema(columns)

    def read_json(self, body: bytes) -> tuple[NDArray[np.float32], Any] | None:
        """``{"rows": …, "keys": …}`` → codes, and the keys as they are given, or None.

        None for a body that is not of that shape.

        Raises:
            InvalidInput: Names the row, the column and the value.
        """
        given = rows_alone(body)
        return None if given is None else (self.read(given["rows"]), given.get("keys"))

    def read_one(self, row: Any, loc: tuple[str | int, ...]) -> NDArray[np.float32]:
        """One row → codes, ``(columns,)``.

        Raises:
            InvalidInput: Names the column and the value.
        """
        if isinstance(row, dict):
            row = self._in_order(row, loc)
        self._check_width(row, loc)
        codes: NDArray[np.float32] = read_codes(self.schema, [row], lambda _: loc)[0]
        return codes

    def _numbers(self, rows: list[Any], field: str) -> NDArray[np.float32]:
        for i, row in enumerate(rows):
            self._check_width(row, (field, i))
        return read_codes(self.schema, rows, lambda row: (field, row))

    def _table(self, table: NDArray[Any], field: str) -> NDArray[np.float32]:
        """An array ``(n, columns)``; NaN is a gap, and only numbers can be told by one."""
        texts = [c.name for c in self.schema.columns if c.kind not in ORDERED]
        if texts:
            raise InvalidInput(
                (field,), f"a NumPy file holds numbers alone, and {texts[0]!r} is none; send JSON "
                "or an Arrow stream",
                "npy",
            )  # fmt: skip
        self._check_numbers(table, field)
        return self._numbers(table.tolist(), "rows")


def read_codes(
    schema: Schema, rows: list[Any], loc: Callable[[int], tuple[str | int, ...]]
) -> NDArray[np.float32]:
    """Codes of rows of the right width, ``(n, columns)``.

    Args:
        schema: Their columns.
        rows: At least one.
        loc: Says where one of them stands.

    Raises:
        InvalidInput: Names the row, the column and the value.
    """
    try:
        return schema.codes(rows)
    except Misfit as misfit:
        raise refusal_of(misfit, loc(misfit.row)) from misfit


def refusal_of(misfit: Misfit, loc: tuple[str | int, ...]) -> InvalidInput:
    """What a client is told of a value that its column cannot hold, in the row at `loc`."""
    given = "null" if misfit.value is None else shown(misfit.value)
    said = f"{misfit.wanted} is needed, got {given}"
    return InvalidInput((*loc, misfit.column), said, "value")
