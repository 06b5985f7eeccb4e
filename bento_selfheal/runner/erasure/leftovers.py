"""What a machine keeps beside the store of a row that was erased: snapshots, and exports."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from bento_selfheal.packaging.pruning import adapters_name, prune
from bento_selfheal.store import ERASED, SqlStore

log = logging.getLogger(__name__)


class Leftovers:
    """Removes what was made before the newest erasure, whoever leads: each machine has its own.

    Args:
        store: Says when the newest erasure was.
        exports: The folder of the exports for a retrain.
    """

    def __init__(self, store: SqlStore, exports: Path) -> None:
        self._store = store
        self._exports = exports
        self._done: str | None = None

    def remove(self) -> bool:
        """Remove them, once for each erasure and at the start; whether there was anything to do.

        Raises:
            StoreError: The store is out of reach.
        """
        erased, package = self._store.meta(ERASED) or "", self._store.meta("package")
        if package is None or erased == self._done:
            return False
        if erased:
            kept = {s.tag for s in self._store.snapshots()}
            store_id = self._store.meta("store_id") or ""
            prune(adapters_name(package), store_id, kept, void_before=float(erased))
            # A step that was under way may have exported the row since; at the start none is.
            self._remove_exports(float(erased) if self._done is None else math.inf)
            self._store.empty_write_ahead_log()
        self._done = erased
        return bool(erased)

    def _remove_exports(self, before: float) -> None:
        """An export names no keys, so no row of it can be found: it goes whole."""
        for path in sorted(self._exports.glob("retrain-*")):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                log.warning("%s held rows of before one was erased, and was deleted", path)
