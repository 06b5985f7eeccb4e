"""Which rows are looked at, and how likely each was to be."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add what was asked for; of requests before, it was all."""
    op.add_column("predictions", sa.Column("review", sa.LargeBinary))
