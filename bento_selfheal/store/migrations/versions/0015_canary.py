"""Canaries: healed snapshots that answer a share of the requests first."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the share; what earlier releases promoted answers all requests."""
    op.add_column("promotions", sa.Column("share", sa.Float))
