"""Rows whose labels people are asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"


def upgrade() -> None:
    """Add the queue; it begins empty."""
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
