"""Replaces the package that a running service serves by another one of the same kind."""

from __future__ import annotations

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import put_in_service
from bento_selfheal.deployment.likeness import check_alike
from bento_selfheal.deployment.locations import open_existing
from bento_selfheal.errors import StoreError
from bento_selfheal.packaging.opening import info_of
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
            check_alike(serving, info_of(serving)[1], exact, info)
            put_in_service(settings, store, exact)
        return exact, exact != serving
    finally:
        store.close()
