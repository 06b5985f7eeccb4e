"""Labels of a request whose body is a table: CSV, Parquet or an Arrow stream."""

from __future__ import annotations

import io
from contextlib import closing
from itertools import islice
from typing import Any

from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.cells import check_columns, item_of
from bento_selfheal.labelling.item import LabelItem, Rejected
from bento_selfheal.labelling.table import CsvTable, ParquetTable, Rows
from bento_selfheal.serving.http.auth import NOBODY
from bento_selfheal.serving.http.own_sources import name_source
from bento_selfheal.serving.reading.rows import check_count
from bento_selfheal.wire.messages import ARROW, PARQUET

MOST_UNPACKED = 100_000_000
"""Bytes that the columns of a Parquet file may say they unpack to."""


class LabelRows:
    """The labels of one table, and its rows that are none.

    Args:
        kind: Content type of the body.
        body: The table, with the columns of `FeedbackItem` except ``features``.
        most: Most rows that it may have.
        token: Name of the token that it came with, to which the sources belong.
        rejected: Gets each bad row, and the others are read; without it, one bad row refuses all.

    Attributes:
        items: The labels, in their order.
        numbers: The number of the row of each.

    Raises:
        InvalidInput: It is no such table, or names the row, the column and the value.
    """

    def __init__(
        self,
        kind: str,
        body: bytes,
        most: int,
        token: str,
        rejected: list[Rejected] | None = None,
    ) -> None:
        self._token = token
        self.items: list[LabelItem] = []
        self.numbers: list[int] = []
        try:
            rows = _rows_of(kind, body, most)
        except ValueError as error:
            raise InvalidInput(("body",), f"no table of labels: {error}", "table") from error
        for i in range(len(rows)):
            try:
                self._take(rows, i)
            except InvalidInput as error:
                if rejected is None:
                    raise
                rejected.append(Rejected.of(i, error))

    def _take(self, rows: Rows, i: int) -> None:
        loc = ("items", i)
        if i in rows.wrong:
            raise InvalidInput(loc, f"{rows.wrong[i]} (line {rows.lines[i]})", "cells")
        item = item_of(rows.row(i), loc)
        if self._token != NOBODY:
            name_source(item, self._token, loc)
        self.items.append(item)
        self.numbers.append(i)


def _rows_of(kind: str, body: bytes, most: int) -> Rows:
    if kind == ARROW:
        return _arrow_rows(body, most)
    if kind == PARQUET:
        return _parquet_rows(body, most)
    with closing(CsvTable(io.BytesIO(body))) as table:
        check_columns(table.names)
        parts = list(islice(table.parts(table.names, most + 1), 1))
    if parts and len(parts[0]) > most:
        raise InvalidInput(("items",), f"the rows are over the limit of {most}", "too_many")
    check_count(len(parts), most, "items")
    return parts[0]


def _parquet_rows(body: bytes, most: int) -> Rows:
    table = ParquetTable(io.BytesIO(body))
    check_columns(table.names)
    check_count(table.count or 0, most, "items")
    if table.unpacked > MOST_UNPACKED:
        raise ValueError(f"it unpacks to more than {MOST_UNPACKED / 1e6:g} MB")
    return next(table.parts(table.names, most))


def _arrow_rows(body: bytes, most: int) -> Rows:
    from bento_selfheal.labelling.arrow_columns import listed
    from bento_selfheal.wire import arrow

    check_count(arrow.rows_in(body), most, "items")
    table = arrow.table_in(body)
    check_columns(table.column_names)
    cells: dict[str, list[Any]] = {
        name: listed(table.column(name), name) for name in table.column_names
    }
    return Rows(list(range(1, len(table) + 1)), cells)
