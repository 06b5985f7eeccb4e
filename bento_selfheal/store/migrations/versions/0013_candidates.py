"""Candidates: new packages that earn their place, what they said, and how they fared."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the three tables; no earlier release had a candidate."""
    place = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "candidates",
        sa.Column("id", place, primary_key=True, autoincrement=True),
        sa.Column("tag", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("ramp", sa.JSON, nullable=False),
        sa.Column("min_labels", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("first_prediction", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("by", sa.String(20), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "candidate_predictions",
        sa.Column("seq", place, primary_key=True, autoincrement=True),
        sa.Column("candidate", sa.BigInteger, nullable=False),
        sa.Column("request", sa.LargeBinary(12), nullable=False, index=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("probabilities", sa.LargeBinary, nullable=False),
        sa.Column("answered", sa.Boolean, nullable=False),
        sa.Column("time", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "candidate_reports",
        sa.Column("candidate", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reporter", sa.String(100), primary_key=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
