"""The tables, portable between SQLite and PostgreSQL.

The prediction log has one row per request, with the numbers as little-endian float32 blobs. Both
logs are append-only; retention deletes their oldest rows. Every feedback row holds the place of
the newest prediction before it (``after``), so that the two logs have one common order and a
replay is exact. A change here needs a migration; a test compares the tables with the migrations.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# SQLite numbers rows itself only if the type of the key is exactly INTEGER.
Sequence = BigInteger().with_variant(Integer, "sqlite")


def _where(condition: str) -> dict[str, Any]:
    """Arguments of an index that holds some rows only."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


meta = Table(
    "meta",
    metadata,
    Column("key", String(40), primary_key=True),
    Column("value", String, nullable=False),
)

predictions = Table(
    "predictions",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("request", LargeBinary(12), nullable=False, unique=True),
    Column("rows", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("time", Float, nullable=False),
    # Bytes of all requests up to this one, so that the size of the log is a difference of two.
    Column("upto", BigInteger, nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),
    # The hash of each row's own key, 16 bytes a row.
    Column("own_keys", LargeBinary),
    # Which rows are looked at: the chance of the others, 8 bytes, and a bit a row; null: all are.
    Column("review", LargeBinary),
    # Whether it was sent before, a moment ago, so that its rows have counted; null: no.
    Column("retried", Boolean),
    # Which rows were erased, a bit a row; null: none. Zeros stand in their place.
    Column("erased", LargeBinary),
    sqlite_autoincrement=True,
)

# Where the newest prediction of each own key is. One row a key, however often it is asked.
prediction_keys = Table(
    "prediction_keys",
    metadata,
    Column("key", LargeBinary(16), primary_key=True),
    # Place of its request, times 2 to the 24, plus its row.
    Column("place", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# One row: how many keys of the newest requests are not in the index yet, and after which place.
unindexed_keys = Table(
    "unindexed_keys",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("after", BigInteger, nullable=False),
    Column("waiting", BigInteger, nullable=False),
)

# Where the newest requests with keys are, by ten minutes and the begin of their first key's hash.
recent_requests = Table(
    "recent_requests",
    metadata,
    Column("period", BigInteger, primary_key=True, autoincrement=False),
    Column("first_key", BigInteger, primary_key=True, autoincrement=False),
    Column("place", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Inputs as they came, where they are logged; none without its request in the prediction log.
inputs = Table(
    "inputs",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("request", LargeBinary(12), nullable=False),
    Column("row", Integer, nullable=False),
    Column("time", Float, nullable=False),
    # Bytes of all inputs up to this one.
    Column("upto", BigInteger, nullable=False),
    Column("media_type", String(40), nullable=False),
    # Last: SQLite reads what stands before it without the pages of the body.
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

feedback = Table(
    "feedback",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("request", LargeBinary(12), nullable=False),
    Column("row", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("label", Integer, nullable=False),
    Column("time", Float, nullable=False),
    Column("source", String(200)),
    Column("features", LargeBinary),
    Column("trace", String(55)),
    Column("after", Sequence, nullable=False),
    # The hash of the row's own key; its row is -1 until a prediction of the key is logged.
    Column("key", LargeBinary(16)),
    # JSON of a class that the packaged model does not have.
    Column("new_class", String(250)),
    UniqueConstraint("request", "row", "revision"),
    Index("ix_feedback_key", "key", **_where("key is not null")),
    Index("ix_feedback_waiting", "key", **_where("row = -1")),
    sqlite_autoincrement=True,
)

# What each source says of a row, where the label with most votes stands.
votes = Table(
    "votes",
    metadata,
    # The row's key, or its request and row.
    Column("name", LargeBinary(16), primary_key=True),
    Column("source", String(200), primary_key=True),
    Column("label", Integer, nullable=False),
    Column("new_class", String(250)),
    Column("time", Float, nullable=False, index=True),
)

# Labels of this minute and the one before, by source and by token, from all workers.
label_rates = Table(
    "label_rates",
    metadata,
    Column("name", String(230), primary_key=True),
    Column("minute", BigInteger, nullable=False, index=True),
    Column("now", Integer, nullable=False),
    Column("before", Integer, nullable=False),
)

# Rows that people are asked about, and who has which of them now.
review_rows = Table(
    "review_rows",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("request", LargeBinary(12), nullable=False),
    Column("row", Integer, nullable=False),
    Column("chance", Float, nullable=False),
    # In which order they are handed out.
    Column("turn", Float, nullable=False, index=True),
    Column("why", String(40), nullable=False),
    Column("time", Float, nullable=False),
    # Until when it is given to nobody.
    Column("until", Float, nullable=False),
    # The day of UTC on which it was handed out last, counted from the epoch.
    Column("day", Integer, index=True),
    sqlite_autoincrement=True,
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("tag", String(200), nullable=False),
    Column("phase", String(20), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("heal", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("time", Float, nullable=False),
    Column("accuracy", Float),
    Column("f1", Float),
    Column("rows", Integer, nullable=False),
    Column("kept", Boolean, nullable=False),
    # The last operating point that it served with, for a rollback to it.
    Column("operating_point", JSON(none_as_null=True)),
    # Places up to which it may depend on each log; null where an earlier release made it.
    Column("seen_predictions", BigInteger),
    Column("seen_labels", BigInteger),
    # Kept ones are few among all that ever were, and are asked for all the time.
    Index("ix_snapshots_kept", "kept", "version"),
)

# Adapters by their hash, for replicas that do not share a model store.
adapters = Table(
    "adapters",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("time", Float, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("signature", String(64), nullable=False, server_default=""),
)

promotions = Table(
    "promotions",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("kind", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("tag", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("reason", String, nullable=False),
    Column("time", Float, nullable=False),
    Column("by", String(20), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("trace", String(55)),
    Column("operating_point", JSON(none_as_null=True)),
    # Share of the requests that a canary answers; null: all.
    Column("share", Float),
    Index("ix_promotions_version", "version", "seq"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("kind", String(40), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("time", Float, nullable=False),
    Column("batch", Integer, nullable=False),
    Index("ix_events_kind", "kind", "seq"),
    sqlite_autoincrement=True,
)

# Figures over time, for charts and exports: of the signals alone, or of a labelled batch too.
measurements = Table(
    "measurements",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False, index=True),
    Column("batch", BigInteger, nullable=False),
    Column("labelled_batch", BigInteger, nullable=False),
    Column("scored", Boolean, nullable=False),
    Column("figures", JSON, nullable=False),
    sqlite_autoincrement=True,
)

commands = Table(
    "commands",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("kind", String(20), nullable=False),
    Column("argument", String(200)),
    Column("time", Float, nullable=False),
    Column("by", String(20), nullable=False, server_default="operator"),
    sqlite_autoincrement=True,
)

# One row: the leader's lease, its checkpoint and its status.
runner = Table(
    "runner",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", String(80), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
    Column("state", LargeBinary),
    Column("status", JSON, nullable=False),
)

# How far each feed of labels is read: of a folder by file; under an empty item are its counts.
feed_places = Table(
    "feed_places",
    metadata,
    Column("feed", String(100), primary_key=True),
    Column("item", String(500), primary_key=True),
    Column("place", JSON, nullable=False),
    Column("time", Float, nullable=False),
)
