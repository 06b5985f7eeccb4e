"""Rows of an Arrow stream: read by column, each value as the same one in JSON would be."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio.to_thread
import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput
from bento_selfheal.inputs.schema import Misfit
from bento_selfheal.serving.reading.refusals import refuse_names
from bento_selfheal.serving.reading.rows import RowReader, check_count
from bento_selfheal.serving.reading.typed_rows import refusal_of
from bento_selfheal.wire.messages import KEYS_HEADER


async def read_arrow(reader: RowReader, body: bytes) -> tuple[NDArray[np.float32], Any]:
    """The rows of a stream as their reader gives those of JSON, ``(n, features)``, and their keys
    as a column `KEYS_HEADER` gives them, or None.

    A thread reads them: pyarrow, which a worker loads with the first stream, takes its time.

    Raises:
        InvalidInput: It is no such stream, or names the columns, or the row, column and value.
    """
    return await anyio.to_thread.run_sync(rows_of, reader, body)


def rows_of(reader: RowReader, body: bytes) -> tuple[NDArray[np.float32], Any]:
    """As `read_arrow`, on the thread that calls it."""
    from bento_selfheal.inputs.table_codes import read_codes
    from bento_selfheal.wire import arrow

    try:
        check_count(arrow.rows_in(body), reader.max_rows, "rows")
        table = arrow.table_in(body)
    except ValueError as error:
        raise InvalidInput(("body",), f"no Arrow stream of a table: {error}", "arrow") from error
    known = [column.name for column in reader.schema.columns]
    own = KEYS_HEADER not in known and table.column_names.count(KEYS_HEADER) == 1
    _check_names([n for n in table.column_names if not (own and n == KEYS_HEADER)], known)
    try:
        return read_codes(table, reader.schema), _keys(table) if own else None
    except Misfit as misfit:
        raise refusal_of(misfit, ("rows", misfit.row)) from misfit


def _keys(table: Any) -> list[Any]:
    """The column of keys; what is neither text nor whole is refused where keys are checked."""
    keys: list[Any] = table.column(KEYS_HEADER).to_pylist()
    return keys


def _check_names(given: list[str], known: list[str]) -> None:
    """Refuse columns that are not the features, in whichever order."""
    twice = [name for name, count in Counter(given).items() if count > 1]
    if twice:
        raise InvalidInput(("body",), f"column {shown(twice[0])} occurs more than once", "twice")
    if set(given) != set(known):
        refuse_names(given, known, ("body",))
