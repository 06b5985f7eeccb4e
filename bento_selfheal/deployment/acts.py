"""What people do on the host, for the audit."""

from __future__ import annotations

import getpass
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.audit.entry import HOST
from bento_selfheal.deployment.locations import has_store, open_store


def user() -> str:
    """The user of this process, cut to what the promotion log has room for."""
    try:
        return getpass.getuser()[:20]
    except (OSError, KeyError, ImportError):  # a container's user has no name
        return "operator"


def note_act(settings: Settings, act: str, detail: dict[str, Any]) -> None:
    """Write into the audit that the user of this process did something; nothing where no service
    has made a store yet.

    Args:
        settings: Which store.
        act: What was done.
        detail: JSON values; never a row, a key or a secret.

    Raises:
        StoreError: The store is out of reach, or not one of this release.
    """
    if not has_store(settings):
        return
    store = open_store(settings)
    try:
        store.check()
        store.add_audit(act, user(), HOST, detail)
    finally:
        store.close()
