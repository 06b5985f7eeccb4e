"""The table of webhooks, beside the others of the store."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, String, Table

from bento_selfheal.store.tables import metadata

# Up to which event of a kind a webhook has told its receiver, and how often it has failed since.
webhook_places = Table(
    "webhook_places",
    metadata,
    Column("hook", String(100), primary_key=True),
    Column("kind", String(40), primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("state", JSON, nullable=False),
)
