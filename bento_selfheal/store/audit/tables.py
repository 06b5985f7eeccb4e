"""The table of the audit, beside the others of the store."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, String, Table, Text

from bento_selfheal.store.tables import metadata

# Who did what; each hash covers the one before it, so no entry can be changed unseen.
audit = Table(
    "audit",
    metadata,
    # Numbered without gaps by the chain, which a sequence of the database would not do.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("act", String(40), nullable=False),
    Column("by", String(200), nullable=False),
    Column("role", String(20), nullable=False),
    # JSON as text: the hash is over these very characters.
    Column("detail", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)
