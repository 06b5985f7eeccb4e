"""Indexes the keys of new requests, so that neither predictions nor labels wait for it."""

from __future__ import annotations

from collections.abc import Callable

from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.store import SqlStore

LOOK_SECONDS = 2.0
STEP_PAUSE = 0.02


class KeyIndexing:
    """Indexes the keys that were logged, in steps too small for anyone to notice.

    Args:
        store: Where they are.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._leads: Callable[[], bool] = lambda: False
        self.thread = PeriodicThread("selfheal-keys", self._look, LOOK_SECONDS)

    def start(self, leads: Callable[[], bool]) -> None:
        """Index what comes from now on, in a thread, while ``leads`` says so."""
        self._leads = leads
        self.thread.start()

    def _look(self) -> None:
        while self._leads() and self._store.index_keys() and not self.thread.pause(STEP_PAUSE):
            pass
