"""Inputs as they came, where they are logged."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table of inputs, which is empty at first."""
    op.create_table(
        "inputs",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True,
            autoincrement=True,
        ),
        sa.Column("request", sa.LargeBinary(12), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("upto", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.String(40), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )  # fmt: skip
