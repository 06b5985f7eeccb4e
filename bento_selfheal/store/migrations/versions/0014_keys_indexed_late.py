"""Keys of rows are indexed many at a time, and requests that are sent again count once."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0012"


def upgrade() -> None:
    """Add what waits for the index, which has all keys of before, and the newest requests."""
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
