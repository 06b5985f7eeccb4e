"""Figures over time, for charts and exports."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table of figures over time."""
    seq = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "measurements",
        sa.Column("seq", seq, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("batch", sa.BigInteger, nullable=False),
        sa.Column("labelled_batch", sa.BigInteger, nullable=False),
        sa.Column("scored", sa.Boolean, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_measurements_time", "measurements", ["time"])
