"""Where a deployment keeps its state: folder, store, adapters, exact tags."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL

from bento_selfheal.config.settings import Settings
from bento_selfheal.errors import StoreError
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.packaging.model_store import bentoml_home, find_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.store import ConflictRule, SqlStore
from bento_selfheal.store.schema import WHICH_STORE

_pinned: dict[str, str] = {}


def pin_models(tags: list[str]) -> None:
    """Serve exactly these model versions, those that a bento was built with, not the newest."""
    _pinned.update({tag.split(":")[0]: tag for tag in tags})


def exact_tag(settings: Settings) -> str:
    """The packaged model's tag with its version.

    Raises:
        bentoml.exceptions.NotFound: No such model.
    """
    name = settings.model.split(":")[0]
    return str(find_model(_pinned.get(name, settings.model)).tag)


def is_newest(settings: Settings) -> bool:
    """Whether the newest version of a model is asked for, and not a certain one."""
    name, _, version = settings.model.partition(":")
    return name not in _pinned and version in ("", "latest")


def state_dir(settings: Settings) -> Path:
    """The folder of the SQLite store and of threshold_config.json."""
    if settings.state_dir != Path():
        return settings.state_dir
    return bentoml_home() / "selfheal" / (settings.name or settings.model.split(":")[0])


def sqlite_url(file: Path) -> str:
    """The URL of a SQLite file, whatever characters its path has.

    >>> sqlite_url(Path("what?/selfheal.db"))
    'sqlite:///what%3F/selfheal.db'
    """
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def open_store(settings: Settings) -> SqlStore:
    """Open the store that the settings name.

    Raises:
        StoreError: Its URL is malformed, or names a database that is not supported.
    """
    url = settings.store_url or sqlite_url(_store_file(settings))
    return SqlStore(url, ConflictRule(settings.conflicts, settings.source_priority))


def open_existing(settings: Settings) -> SqlStore:
    """Open the store that the settings name, which a service has made.

    Raises:
        StoreError: As of `open_store`, or there is no such file; the message says what names it.
    """
    if not has_store(settings):
        file = _store_file(settings)
        raise StoreError(f"there is no store of a service at {file}; {WHICH_STORE}")
    return open_store(settings)


def has_store(settings: Settings) -> bool:
    """Whether the store that the settings name is a database server's, or a file that is there:
    opening a missing one would make an empty one."""
    return bool(settings.store_url) or _store_file(settings).exists()


def _store_file(settings: Settings) -> Path:
    return state_dir(settings) / "selfheal.db"


def registry_of(package: Package, store: SqlStore, settings: Settings) -> Registry:
    """The snapshots of this package in this store."""
    return Registry(
        package,
        store.meta("store_id") or "",
        adapters=store if store.shared else None,
        key=settings.signing_key.get_secret_value().encode(),
    )
