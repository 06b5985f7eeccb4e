"""Who asked for a command, and signatures of adapters."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add who asked for a command, and the signatures of adapters."""
    op.add_column(
        "commands", sa.Column("by", sa.String(20), nullable=False, server_default="operator")
    )
    op.add_column(
        "adapters", sa.Column("signature", sa.String(64), nullable=False, server_default="")
    )
