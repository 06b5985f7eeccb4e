"""The store as version 0.1 of this package made it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables of the first release."""
    op.create_table(
        "meta",
        sa.Column("key", sa.String(40), primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
    op.create_table(
        "predictions",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("request", sa.LargeBinary(12), nullable=False, unique=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "feedback",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("request", sa.LargeBinary(12), nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("source", sa.String(200)),
        sa.Column("features", sa.LargeBinary),
        sa.Column("trace", sa.String(55)),
        sa.Column("after", SEQUENCE, nullable=False),
        sa.UniqueConstraint("request", "row", "revision"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "snapshots",
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("tag", sa.String(200), nullable=False),
        sa.Column("phase", sa.String(20), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("heal", sa.Integer, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("accuracy", sa.Float),
        sa.Column("f1", sa.Float),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
    )
    op.create_table(
        "promotions",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("tag", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("by", sa.String(20), nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("trace", sa.String(55)),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "events",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "commands",
        sa.Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("argument", sa.String(200)),
        sa.Column("time", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "runner",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("owner", sa.String(80), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("state", sa.LargeBinary),
        sa.Column("status", sa.JSON, nullable=False),
    )
