"""Keeps the store within its bounds, in steps too small for anyone to notice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.store import SqlStore
from bento_selfheal.store.retention import Waiting

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0
BUSY_SECONDS = 1.0
"""Until the next look while there is something to retire."""
STEP_ROWS = 1000
STEP_PAUSE = 0.02
DAY = 86_400.0
ADAPTER_SECONDS = 3600.0
"""Age from which on an adapter that no snapshot has was left over by a step that failed."""
RECORDS_KEPT = 100_000
"""Most events, promotions and dropped snapshots that the store keeps of each: some 100 MB in all.
A service in order writes a few hundred a day; this bounds what one in trouble can write."""
AUDIT_KEPT = 1_000_000
"""Most entries of the audit: feeds and webhooks must not push what operators did out of it."""


class Retention:
    """Retires the oldest rows of the store, and adapters that nothing needs.

    Args:
        store: What is kept within bounds.
        settings: The bounds: ``log_days``, ``log_megabytes``, ``feedback_days``, ``history_days``,
            ``record_days`` and ``waiting_megabytes``.
    """

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._thinned = 0.0
        self._leads: Callable[[], bool] = lambda: False
        self.thread = PeriodicThread("selfheal-retention", self._look, LOOK_SECONDS)

    def start(self, leads: Callable[[], bool]) -> None:
        """Retire what is over the bounds from now on, in a thread, while ``leads`` says so."""
        self._leads = leads
        self.thread.start()

    def run_once(self, now: float) -> int:
        """Retire everything that is over the bounds.

        Args:
            now: Seconds since the epoch.

        Returns:
            How many rows of the logs and how many records were deleted.

        Raises:
            StoreError: The store is out of reach; what went is gone, the rest stays.
        """
        s = self._settings
        oldest, room = now - s.log_days * DAY, int(s.log_megabytes * 1e6)
        waiting = self._waiting()
        gone = self._steps(lambda: self._store.retire_predictions(oldest, room, STEP_ROWS, waiting))
        left = max(room - self._store.logged()[0], 0)  # healing needs predictions
        gone += self._steps(lambda: self._store.retire_inputs(oldest, left, STEP_ROWS))
        gone += self._steps(lambda: self._store.retire_candidate_predictions(STEP_ROWS))
        given = now - s.feedback_days * DAY
        gone += self._steps(lambda: self._store.retire_feedback(given, STEP_ROWS))
        thin = (self._thinned, now - DAY)
        self._store.retire_measurements(now - s.history_days * DAY, *thin)
        self._thinned = thin[1]
        gone += self._retire_records(now - s.record_days * DAY)
        if self._store.shared:
            self._store.retire_adapters(now - ADAPTER_SECONDS)
        return gone

    def _waiting(self) -> Waiting | None:
        """Requests that have to mature first, by what the runner has written last."""
        if self._settings.unreported is None:
            return None
        shown = self._store.status().get("unreported") or {}
        if "matured" not in shown:
            return None
        return Waiting(shown["matured"], int(self._settings.waiting_megabytes * 1e6))

    def _retire_records(self, before: float) -> int:
        """Retire the audit and events, then promotions, then snapshots that no promotion names."""
        store = self._store
        retired = (store.retire_events, store.retire_promotions, store.retire_snapshots)
        audit = partial(store.retire_audit, before, AUDIT_KEPT, STEP_ROWS)
        return self._steps(audit) + sum(
            self._steps(partial(r, before, RECORDS_KEPT, STEP_ROWS)) for r in retired
        )

    def _steps(self, step: Callable[[], int]) -> int:
        gone = 0
        while done := step():
            gone += done
            if self.thread.pause(STEP_PAUSE):
                break
        return gone

    def _look(self) -> float:
        if not self._leads():
            return LOOK_SECONDS
        gone = self.run_once(time.time())
        log.debug("retention deleted %d rows", gone)
        return BUSY_SECONDS if gone else LOOK_SECONDS
