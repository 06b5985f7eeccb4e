"""The schema of the tables: made, migrated and checked; and the facts about the store itself."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, inspect, select, text, update

from bento_selfheal.errors import NewerRelease, StoreError
from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Part

MIGRATIONS = Path(__file__).parent / "migrations"
FIRST_REVISION = "0001"
WHICH_STORE = (
    "name the service's model with SELFHEAL_MODEL, and its store with SELFHEAL_STATE_DIR or "
    "SELFHEAL_STORE_URL if the service has one of these"
)
"""What to do where a store is not one of a service."""


class Schema(Part):
    """Tables of this release, and the facts about the store."""

    def create(self) -> None:
        """Bring the tables up to this release, and make the secret that signs prediction ids.

        Raises:
            NewerRelease: A newer release made the tables.
            StoreError: The database cannot be written.
        """
        with self._db.write() as c:
            _migrate(c, self._db.name)
            known = set(c.execute(select(t.meta.c.key)).scalars())
            fresh = {"secret": secrets.token_hex(32), "store_id": secrets.token_hex(3)}
            missing = [{"key": k, "value": v} for k, v in fresh.items() if k not in known]
            if missing:
                c.execute(insert(t.meta), missing)

    def refuse_newer(self) -> None:
        """Check that no newer release has made the tables; nothing is written.

        Raises:
            NewerRelease: One has.
            StoreError: The database cannot be read.
        """
        with self._db.read() as c:
            _refuse_newer(_revision(c), revisions(c)[1], self._db.name)

    def check(self) -> None:
        """Check that the tables are of this release; for commands that only read.

        Raises:
            StoreError: They are not, or there are none; the message says what to do.
        """
        with self._db.read() as c:
            found, (_, known) = _revision(c), revisions(c)
        if found is None:
            raise StoreError(
                f"{self._db.name} has no tables: no service was started with it; {WHICH_STORE}"
            )
        if found != known[0]:
            raise StoreError(
                f"{self._db.name} has schema {found}, but this release needs schema {known[0]}; "
                "start the service or run `bento-selfheal deploy TAG` to bring it up to date"
            )

    def meta(self, key: str) -> str | None:
        """A fact about the store, such as its secret; None where it has none of this name."""
        with self._db.read() as c:
            return get_meta(c, key)

    def set_meta(self, key: str, value: str) -> None:
        """Write a fact about the store, unless it is known so."""
        if self.meta(key) != value:
            with self._db.write() as c:
                put_meta(c, key, value)


def get_meta(c: Connection, key: str) -> str | None:
    """A fact about the store, read inside a transaction."""
    return c.execute(select(t.meta.c.value).where(t.meta.c.key == key)).scalar()


def put_meta(c: Connection, key: str, value: str) -> None:
    """Write a fact about the store inside a transaction."""
    done = c.execute(update(t.meta).where(t.meta.c.key == key).values(value=value))
    if done.rowcount == 0:
        c.execute(insert(t.meta).values(key=key, value=value))


def revisions(c: Connection) -> tuple[Any, list[str]]:
    """Alembic's configuration for a connection, and the revisions of this release, newest first."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": c})
    config.set_main_option("script_location", str(MIGRATIONS))
    return config, [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()]


def _migrate(c: Connection, name: str) -> None:
    """Bring the tables to the newest revision, inside the caller's transaction."""
    from alembic import command

    config, known = revisions(c)
    found = _revision(c)
    if found == known[0]:
        return
    _refuse_newer(found, known, name)
    if found == FIRST_REVISION:
        command.stamp(config, found)
    command.upgrade(config, "head")


def _refuse_newer(found: str | None, known: list[str], name: str) -> None:
    if found is not None and found not in known:
        raise NewerRelease(
            f"{name} has schema {found}, but this release knows no schema after {known[0]}; serve "
            "it with the release that made it"
        )


def _revision(c: Connection) -> str | None:
    """The revision of the tables; None where there are no tables."""
    tables = inspect(c).get_table_names()
    if "alembic_version" in tables:
        found: str | None = c.execute(text("select version_num from alembic_version")).scalar()
        return found
    # The first release had no migrations.
    return FIRST_REVISION if "predictions" in tables else None
