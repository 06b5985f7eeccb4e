"""Keys of rows are indexed many at a time: how many wait for it, and from which place on."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"


def upgrade() -> None:
    """Add the count; all keys of before are in the index."""
    keys = op.create_table(
        "unindexed_keys",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("after", sa.BigInteger, nullable=False),
        sa.Column("waiting", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(keys, [{"id": 1, "after": 0, "waiting": 0}])
