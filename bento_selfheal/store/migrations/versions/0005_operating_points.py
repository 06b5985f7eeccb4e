"""Operating points of promotions and snapshots, and indexes for what is kept."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = "operating_point"


def upgrade() -> None:
    """Add the operating points and the indexes."""
    op.add_column("promotions", sa.Column(KEY, sa.JSON))
    op.add_column("snapshots", sa.Column(KEY, sa.JSON))
    op.create_index("ix_promotions_version", "promotions", ["version", "seq"])
    op.create_index("ix_snapshots_kept", "snapshots", ["kept", "version"])
    _name_the_version()


def _name_the_version() -> None:
    """The point in force belongs to the newest promotion; older releases did not say so."""
    c = op.get_bind()
    point = c.execute(sa.text("select value from meta where key = :key"), {"key": KEY}).scalar()
    newest = "select version from promotions order by seq desc limit 1"
    version = c.execute(sa.text(newest)).scalar()
    if point is None or version is None:
        return
    values = {"point": json.dumps({**json.loads(point), "version": version}), "version": version}
    c.execute(sa.text("update meta set value = :point where key = 'operating_point'"), values)
    known = "update snapshots set operating_point = :point where version = :version"
    c.execute(sa.text(known), values)
