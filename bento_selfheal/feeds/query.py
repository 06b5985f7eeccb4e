"""A feed that asks a database: the rows of a query from a cursor on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import NullPool, column, create_engine, func, select, text
from sqlalchemy.engine import Row
from sqlalchemy.exc import SQLAlchemyError

from bento_selfheal.config.feeds import Feed
from bento_selfheal.core.text import shown
from bento_selfheal.errors import FeedError
from bento_selfheal.feeds.source import PART_ROWS, Part, Places
from bento_selfheal.labelling.table import Rows

ITEM = "query"
MOST_REMEMBERED = 10_000
"""Rows of one value of the cursor that are not read twice; of more, each still counts once."""
READERS: dict[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat, "date": date.fromisoformat, "decimal": Decimal,
}  # fmt: skip
"""Of the types of cursors that JSON has not."""
NUMBER = "number"
KINDS: dict[str, tuple[type, ...]] = {
    "time": (datetime,), "date": (date,), NUMBER: (int, float, Decimal), "text": (str,),
}  # fmt: skip
"""What a cursor may be. A `datetime` is a `date` as well, and comes first."""


class QuerySource:
    """Reads the rows of a query whose cursor is at or behind the place, in the cursor's order.

    Rows of the place's own value are read again: some may have come since. Those that were read
    before are known by their content.

    Args:
        feed: With the URL, the query and the name of the cursor's column.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def parts(self, places: Places) -> Iterator[Part]:
        """As `Source.parts`."""
        place = places.get(ITEM)
        cursor = None if place is None else _read(place["cursor"])
        seen, odd = [] if place is None else list(place["seen"]), ""
        try:
            for page in self._pages(cursor):
                rows, why = _readable(page, cursor)
                odd = odd or why
                if not rows:
                    continue
                part, cursor, seen = self._part(rows, cursor, seen)
                if len(part.rows):  # else all were read before
                    yield part
        except (SQLAlchemyError, ImportError, TypeError) as error:
            said = " ".join(str(getattr(error, "orig", None) or error).split())
            raise FeedError(f"feed {self._feed.name}: the query failed: {said}") from error
        if odd:
            raise FeedError(f"feed {self._feed.name}: {odd}")

    def gone(self, places: Places) -> list[str]:
        """As `Source.gone`."""
        return []

    def _pages(self, cursor: Any) -> Iterator[Sequence[Row[Any]]]:
        feed = self._feed
        wanted = [feed.cursor or "", *feed.columns.values()]
        given = text(_verbatim(feed.query or "")).columns(
            *(column(n) for n in dict.fromkeys(wanted))
        )
        rows = given.subquery("feed")
        by = rows.c[feed.cursor or ""]
        query = select(*(rows.c[name].label(f"c{i}") for i, name in enumerate(wanted)))
        behind = by.is_not(None) if cursor is None else by >= cursor
        url = feed.url.get_secret_value() if feed.url else ""
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
        if isinstance(cursor, str) and engine.dialect.name == "sqlite":  # numbers lie before texts
            behind |= func.typeof(by).in_(["integer", "real"])
        query = query.where(behind).order_by(by)
        try:
            with engine.connect().execution_options(stream_results=True) as c:
                yield from c.execute(query).partitions(PART_ROWS)
        finally:
            engine.dispose()

    def _part(
        self, found: Sequence[Row[Any]], cursor: Any, seen: list[str]
    ) -> tuple[Part, Any, list[str]]:
        """The rows that were not read before, and the cursor behind them."""
        fresh = []
        for row in found:
            mark = _mark(row)
            if row[0] == cursor and mark in seen:
                continue
            fresh.append(row)
            if row[0] != cursor:
                cursor, seen = row[0], []
            if len(seen) < MOST_REMEMBERED:
                seen.append(mark)
        names = enumerate(self._feed.columns, start=1)
        cells = {name: [row[i] for row in fresh] for i, name in names}
        # A row of a table has no line: its cursor says where it is.
        rows = Rows([0] * len(fresh), {**cells, "cursor": [row[0] for row in fresh]})
        place = {"cursor": _written(cursor), "seen": list(seen)}
        return Part(rows, ITEM, place), cursor, seen


def _verbatim(query: str) -> str:
    """A query in which no colon is a parameter's, and which may end with a comment."""
    return query.strip().rstrip(";").replace(":", r"\:") + "\n"


def _mark(row: Row[Any]) -> str:
    return hashlib.blake2b(repr(tuple(row)).encode(errors="replace"), digest_size=8).hexdigest()


def _readable(page: Sequence[Row[Any]], cursor: Any) -> tuple[list[Row[Any]], str]:
    """The rows behind whose cursor others can come, and why the first of the others is none."""
    rows: list[Row[Any]] = []
    odd = ""
    for row in page:
        before = cursor if cursor is not None else rows[0][0] if rows else None
        why = _objection(row[0], before)
        odd = odd or why
        if not why:
            rows.append(row)
    return rows, odd


def _objection(cursor: Any, before: Any) -> str:
    """Why a cursor is no place in the order of those before it; empty where it is one.

    SQLite keeps values of any type in a column, and has all texts behind all numbers: behind a text
    no number would ever be read.
    """
    kind = _kind(cursor)
    if not kind:
        return f"the cursor is {shown(cursor)}; a number, a text or a time is needed"
    if kind == NUMBER and not math.isfinite(cursor):
        return f"the cursor is {cursor}, behind which nothing can come"
    if before is not None and kind != _kind(before):
        return (
            f"the cursor is {shown(cursor)}, a {kind}, and a {_kind(before)} in the rows that were "
            "read; rows of another type are not read"
        )
    return ""


def _kind(cursor: Any) -> str:
    """What a cursor is, in a word; empty where it can be none."""
    return next((kind for kind, types in KINDS.items() if isinstance(cursor, types)), "")


def _written(cursor: Any) -> Any:
    """A cursor's value as JSON."""
    if isinstance(cursor, datetime):
        return {"datetime": cursor.isoformat()}
    if isinstance(cursor, date):
        return {"date": cursor.isoformat()}
    if isinstance(cursor, Decimal):
        return {"decimal": str(cursor)}
    return cursor


def _read(written: Any) -> Any:
    if not isinstance(written, dict):
        return written
    ((kind, value),) = written.items()
    return READERS[kind](value)
