"""Connections to SQLite or PostgreSQL: consistent reads, and one writer at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Row,
    Table,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from bento_selfheal.errors import StoreError, storable

BUSY_SECONDS = 30
CONNECT_SECONDS = 5
IDLE_SECONDS = 3
SILENT_SECONDS = 10
"""A connection to PostgreSQL that shows no sign of life for this long counts as broken."""


class WriteLock(IntEnum):
    """The lock that a write holds on PostgreSQL; on SQLite all writes share a single lock.

    A row gets its place in a log when it is written, and readers see it once it is committed. With
    one writer at a time both orders agree, so a reader's cursor never skips a row.
    """

    LOGS = 7_356_001
    """Predictions and feedback: keeps the common order of both logs."""
    RUNNER = 7_356_002
    """Everything else: a large checkpoint must not delay feedback."""


class Connections:
    """The database engine of a store, with its transactions.

    Args:
        url: SQLAlchemy URL: ``sqlite:///…`` or ``postgresql+psycopg://…``.

    Raises:
        StoreError: The URL is malformed, or names a database that is not supported.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self.shared = _is_shared(parsed)
            self.engine = _open_postgres(parsed) if self.shared else _open_sqlite(parsed)
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise StoreError(f"store_url: {error}") from error
        self.name = parsed.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view of all tables."""
        try:
            with self.engine.connect().execution_options(**self._reading) as c, c.begin():
                yield c
        except SQLAlchemyError as error:
            raise StoreError(f"cannot read the store: {_brief(error)}") from error

    @contextmanager
    def write(self, *locks: WriteLock, lasting: bool = True) -> Iterator[Connection]:
        """A write transaction; one at a time per lock, across all processes and machines.

        Args:
            locks: The writes to wait for, `WriteLock.RUNNER` where none is named; of several the
                first one in its order first.
            lasting: Whether the commit is on disk when the block ends. Without it, a crash of the
                machine may lose the newest transactions: whole ones, newest first.
        """
        try:
            options = {"writes": True, "lasting": lasting}
            with self.engine.connect().execution_options(**options) as c, c.begin():
                if self.shared:
                    for lock in locks or (WriteLock.RUNNER,):
                        c.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": int(lock)})
                    if not lasting:
                        c.execute(text("set local synchronous_commit = off"))
                yield c
        except SQLAlchemyError as error:
            raise StoreError(f"cannot write to the store: {_brief(error)}") from error

    @property
    def _reading(self) -> dict[str, Any]:
        if not self.shared:
            return {}
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _is_shared(url: URL) -> bool:
    """Whether many machines may use the database at once."""
    backend = url.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(f"store_url: {backend} is not supported; use sqlite or postgresql+psycopg")
    return backend == "postgresql"


def _open_sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    # Hidden: an error message must not show feature values. Each kept statement and each idle
    # connection holds what it last saw, a checkpoint of megabytes: none and as few as can be.
    engine = create_engine(
        url, json_serializer=_to_json, hide_parameters=True, pool_use_lifo=True,
        connect_args={"cached_statements": 0},
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        # SQLAlchemy emits BEGIN itself; the driver's own would hide which kind it is.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout={BUSY_SECONDS * 1000}",
            "journal_mode=WAL",
            "secure_delete=ON",  # else deleted rows stay in free pages; builds of SQLite differ
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "checkin")
    def _checkin(connection: Any, _: Any) -> None:
        if connection is not None:  # else it was closed
            connection.execute("PRAGMA shrink_memory").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        # The log is written in order: the next lasting commit also saves what came before it.
        wanted = "FULL" if options.get("lasting", True) else "NORMAL"
        if connection.info.get("synchronous") != wanted:
            connection.exec_driver_sql(f"PRAGMA synchronous={wanted}")
            connection.info["synchronous"] = wanted
        # A write takes its lock at the start: upgrading a read lock later would fail, not wait.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")

    return engine


def _open_postgres(url: URL) -> Engine:
    if url.get_driver_name() != "psycopg":
        url = url.set(drivername="postgresql+psycopg")
    silent = SILENT_SECONDS
    known: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": silent // 2,
        "keepalives_interval": 1,
        "keepalives_count": silent // 2,
        "tcp_user_timeout": silent * 1000,
        "application_name": "bento_selfheal",
    }
    given = {k: v for k, v in known.items() if k not in url.query}
    engine = create_engine(
        url, json_serializer=_to_json, connect_args=given, pool_pre_ping=True, pool_recycle=1800,
        hide_parameters=True,
    )  # fmt: skip

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.autocommit = True
        connection.execute(f"set lock_timeout = '{BUSY_SECONDS}s'")
        connection.execute(f"set statement_timeout = '{BUSY_SECONDS}s'")
        # A process that is stopped inside a transaction holds its lock: nobody else could lead.
        connection.execute(f"set idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
        connection.autocommit = False

    return engine


def _to_json(value: Any) -> str:
    """JSON that every database accepts: NaN and infinity become null, odd characters escapes."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False)
    if "\\ud" in text or "\\u0000" in text:
        text = json.dumps(storable(json.loads(text)))
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def _brief(error: SQLAlchemyError) -> str:
    """The database's own message, without the statement and its parameters."""
    return " ".join(str(getattr(error, "orig", None) or error).split())


class Part:
    """One concern of the store: its statements, on the connections that all parts share.

    Args:
        db: The connections.
    """

    def __init__(self, db: Connections) -> None:
        self._db = db

    def page(
        self,
        table: Table,
        place: Column[int],
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Row[Any]]:
        """Rows of a table in the order of their places, at most ``limit`` of them.

        Args:
            table: Where the rows are.
            place: The column to order them by.
            after: Only rows after this place, the oldest of them; without it, the newest rows.
            before: Only rows before this place.
            limit: Most rows to return; None for all.
        """
        query = select(table).order_by(place.desc() if after is None else place).limit(limit)
        if after is not None:
            query = query.where(place > after)
        if before is not None:
            query = query.where(place < before)
        with self._db.read() as c:
            rows = list(c.execute(query))
        return rows[::-1] if after is None else rows
