"""What the log holds in bytes, and adapters for replicas."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Note the size of what is logged, and keep adapters for replicas."""
    if op.get_bind().dialect.name == "sqlite":
        _copy_log()
    else:
        # The first version knew SQLite alone: elsewhere the table was made empty a moment ago.
        op.add_column("predictions", sa.Column("upto", sa.BigInteger, nullable=False))
    op.create_table(
        "adapters",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("blob", sa.LargeBinary, nullable=False),
    )
    op.execute("delete from meta where key = 'schema'")


def _copy_log() -> None:
    """SQLite adds a column behind the blobs, where a read of it would fetch them as well."""
    op.rename_table("predictions", "predictions_0001")
    op.create_table(
        "predictions",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("request", sa.LargeBinary(12), nullable=False, unique=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("upto", sa.BigInteger, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.execute(
        "insert into predictions "
        "(seq, request, rows, version, time, upto, features, probabilities) "
        "select seq, request, rows, version, time, "
        "sum(length(features) + length(probabilities)) over (order by seq), "
        "features, probabilities from predictions_0001 order by seq"
    )
    op.drop_table("predictions_0001")
