"""Replaces the package that a running service serves by another one of the same kind."""

from __future__ import annotations

from pydantic import BaseModel

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import put_in_service
from bento_selfheal.deployment.locations import open_existing
from bento_selfheal.errors import PackageError, StoreError
from bento_selfheal.packaging.opening import info_of
from bento_selfheal.packaging.package import PackageInfo
from bento_selfheal.store.schema import WHICH_STORE


def replace_package(settings: Settings, tag: str) -> tuple[str, bool]:
    """Have another package serve from the store of the service.

    Args:
        settings: Those of the service: they say which store is its.
        tag: Tag of the package that takes over.

    Returns:
        Its exact tag, and whether it did not serve already.

    Raises:
        PackageError: There is no such package, or its features or classes are others.
        StoreError: The settings name no store of a service.
    """
    exact, info = info_of(tag)
    store = open_existing(settings)
    try:
        store.create()
        serving = store.meta("package")
        if serving is None:
            raise StoreError(f"nothing was deployed to this store yet; {WHICH_STORE}")
        if exact != serving:
            _check_alike(serving, info_of(serving)[1], exact, info)
            put_in_service(settings, store, exact)
        return exact, exact != serving
    finally:
        store.close()


def _check_alike(serving: str, old: PackageInfo, tag: str, new: PackageInfo) -> None:
    if what := old.differs_in(new):
        if what == "embedding" and old.embedding and new.embedding:
            raise PackageError(
                f"{tag} embeds inputs otherwise than {serving}, which serves: "
                f"{_parts_that_differ(old.embedding, new.embedding)} differ. What is logged and "
                "learned belongs to one of them; serve the other from a store of its own"
            )
        had, has = getattr(old, what), getattr(new, what)
        raise PackageError(f"{tag} has the {what} {has}, but {serving}, which serves, has {had}")


def _parts_that_differ(old: BaseModel, new: BaseModel) -> str:
    """Names of what two embeddings do not share."""
    was, now = old.model_dump(), new.model_dump()
    return ", ".join(name for name in was | now if was.get(name) != now.get(name))
