"""Blobs of half precision, which earlier releases cannot read; those of theirs stay as they are."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Keep earlier releases from a store with such blobs."""
