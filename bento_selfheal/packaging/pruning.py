"""Removes snapshots from the model store that nothing needs: copies, and what was left over."""

from __future__ import annotations

import logging
import time
from collections.abc import Set as AbstractSet

from filelock import FileLock, Timeout

from bento_selfheal.core.records import Phase
from bento_selfheal.packaging.model_store import bentoml_home, delete_model

log = logging.getLogger(__name__)

YOUNG_SECONDS = 600.0
LOCK_SECONDS = 30.0


def adapters_name(package: str) -> str:
    """The one name of all snapshots of a package, of which the tag or the name is given."""
    return f"{package.partition(':')[0]}-adapter"


def adapters_lock(name: str) -> FileLock:
    """BentoML does not support concurrent writers of one model name."""
    path = bentoml_home() / "selfheal" / f".{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path, timeout=LOCK_SECONDS)


def prune(name: str, store_id: str, kept: AbstractSet[str], void_before: float = 0.0) -> None:
    """Remove snapshots that are no longer kept: local copies, and what killed runners left.

    Args:
        name: The name of all snapshots of the package.
        store_id: The store whose snapshots they are.
        kept: Tags of those that stay.
        void_before: Steps that began before this time, in seconds since the epoch, cannot be
            written any more. Otherwise a young snapshot may belong to one that still is.
    """
    now = time.time()
    for copy in (bentoml_home() / "models" / name).glob(f"{store_id}-*"):
        tag = f"{name}:{copy.name}"
        try:
            made = copy.stat().st_mtime
            deploys = copy.name.endswith(f"-{Phase.CLEAN.value}")  # that is no step of a runner
            void = made < void_before and not deploys
            if tag not in kept and (void or now - made > YOUNG_SECONDS):
                with adapters_lock(name):
                    delete_model(tag)
        except FileNotFoundError:
            continue  # a worker that erased a row, or another runner, removed it meanwhile
        except (OSError, Timeout) as error:
            log.warning("%s is no longer kept, but could not be removed: %s", tag, error)
