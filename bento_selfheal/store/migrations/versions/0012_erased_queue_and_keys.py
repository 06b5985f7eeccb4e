"""Rows that were erased, the queue of rows to look at, and keys that are indexed late."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add all of them; of earlier snapshots it is not known what they saw, so it may be any row."""
    op.add_column("predictions", sa.Column("erased", sa.LargeBinary))
    op.add_column("snapshots", sa.Column("seen_predictions", sa.BigInteger))
    op.add_column("snapshots", sa.Column("seen_labels", sa.BigInteger))
    _add_queue()
    _add_keys()


def _add_queue() -> None:
    op.create_table(
        "review_rows",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("request", sa.LargeBinary(12), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("chance", sa.Float, nullable=False),
        sa.Column("turn", sa.Float, nullable=False, index=True),
        sa.Column("why", sa.String(40), nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("day", sa.Integer, index=True),
        sqlite_autoincrement=True,
    )


def _add_keys() -> None:
    """All keys of before are in the index."""
    keys = op.create_table(
        "unindexed_keys",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("after", sa.BigInteger, nullable=False),
        sa.Column("waiting", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(keys, [{"id": 1, "after": 0, "waiting": 0}])
    op.add_column("predictions", sa.Column("retried", sa.Boolean))
    op.create_table(
        "recent_requests",
        sa.Column("period", sa.BigInteger, primary_key=True),
        sa.Column("first_key", sa.BigInteger, primary_key=True),
        sa.Column("place", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
