"""Where the feeds of labels stand."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the places of feeds; there were none."""
    op.create_table(
        "feed_places",
        sa.Column("feed", sa.String(100), primary_key=True),
        sa.Column("item", sa.String(500), primary_key=True),
        sa.Column("place", sa.JSON, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
    )
