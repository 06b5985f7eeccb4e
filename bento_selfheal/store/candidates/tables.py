"""The tables of candidates, beside the others of the store."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
)

from bento_selfheal.store.tables import Sequence, metadata

# Packages that earn their place beside the one that serves.
candidates = Table(
    "candidates",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("tag", String(200), nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("ramp", JSON, nullable=False),
    Column("min_labels", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("first_prediction", BigInteger, nullable=False),
    Column("reason", String, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("time", Float, nullable=False),
    Column("by", String(20), nullable=False),
    sqlite_autoincrement=True,
)

# What candidates said of requests; none is kept longer than its request.
candidate_predictions = Table(
    "candidate_predictions",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),
    Column("candidate", BigInteger, nullable=False),
    Column("request", LargeBinary(12), nullable=False, index=True),
    Column("rows", Integer, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),
    # Whether this was the answer; otherwise the champion's in the prediction log was.
    Column("answered", Boolean, nullable=False),
    Column("time", Float, nullable=False),
    sqlite_autoincrement=True,
)

# What each process counted of each candidate: requests, failures, times.
candidate_reports = Table(
    "candidate_reports",
    metadata,
    Column("candidate", BigInteger, primary_key=True, autoincrement=False),
    Column("reporter", String(100), primary_key=True),
    Column("time", Float, nullable=False),
    Column("figures", JSON, nullable=False),
)
