"""Keys that users give their rows: their hashes, and where the newest prediction of each is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the keys of predictions and labels; those of before have none."""
    op.add_column("predictions", sa.Column("own_keys", sa.LargeBinary))
    op.add_column("feedback", sa.Column("key", sa.LargeBinary(16)))
    for name, rows in (("key", "key is not null"), ("waiting", "row = -1")):
        some = sa.text(rows)
        op.create_index(
            f"ix_feedback_{name}", "feedback", ["key"], sqlite_where=some, postgresql_where=some
        )
    op.create_table(
        "prediction_keys",
        sa.Column("key", sa.LargeBinary(16), primary_key=True),
        sa.Column("place", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
