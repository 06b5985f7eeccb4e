"""Classes that no model was trained on, votes about labels, and labels per minute."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add them; labels of before are of the model's classes."""
    op.add_column("feedback", sa.Column("new_class", sa.String(250)))
    op.create_table(
        "votes",
        sa.Column("name", sa.LargeBinary(16), primary_key=True),
        sa.Column("source", sa.String(200), primary_key=True),
        sa.Column("label", sa.Integer, nullable=False),
        sa.Column("new_class", sa.String(250)),
        sa.Column("time", sa.Float, nullable=False, index=True),
    )
    op.create_table(
        "label_rates",
        sa.Column("name", sa.String(230), primary_key=True),
        sa.Column("minute", sa.BigInteger, nullable=False, index=True),
        sa.Column("now", sa.Integer, nullable=False),
        sa.Column("before", sa.Integer, nullable=False),
    )
