"""Rows that were erased, and how far into the logs each snapshot may have seen."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add them; of earlier snapshots it is not known, so they may have seen any row."""
    op.add_column("predictions", sa.Column("erased", sa.LargeBinary))
    op.add_column("snapshots", sa.Column("seen_predictions", sa.BigInteger))
    op.add_column("snapshots", sa.Column("seen_labels", sa.BigInteger))
