"""What the runner shows of itself: the pipeline's status, its threads, and lasting trouble."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.core.records import Event
from bento_selfheal.errors import StoreError, brief
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)

TROUBLE_AFTER = 5
"""Failures of the step in a row from which on the runner says that it is stuck."""
AGE_STEP = 15.0
"""Seconds that the oldest event of a webhook ages until that is shown again."""


class StatusBoard:
    """The status that operators read, and whatever must be loud in it.

    Args:
        store: Where `/status` reads it.
        token: The lease's fencing token; None while another runner leads.
        threads: State of the runner's threads.
        others: What feeds, webhooks and the processor's share show of themselves, by kind.
    """

    def __init__(
        self,
        store: SqlStore,
        token: Callable[[], int | None],
        threads: Callable[[], list[ThreadState]],
        others: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._store = store
        self._token = token
        self._threads = threads
        self._others = others
        # The lease's thread shows threads beside the steps: it must not bring an old status back.
        self._lock = threading.Lock()
        self._written: dict[str, Any] = {}
        self._shown: list[tuple[Any, ...]] = []
        self._failing = 0
        self._trouble = ""

    def current(self) -> dict[str, Any]:
        """The last written status with the threads and the trouble of this moment."""
        return self.with_own(self._written)

    def with_own(self, status: dict[str, Any]) -> dict[str, Any]:
        """A status of the pipeline with what the board adds; empty stays empty."""
        if not status:
            return {}
        return {
            **status,
            "threads": self._threads(),
            **self._others(),
            "failing": self._failing,
            "trouble": self._trouble or status.get("rows_trouble", ""),
        }

    def wrote(self, status: dict[str, Any]) -> None:
        """Take note of the status that the store has now."""
        self._written = status
        self._shown = self._marks()

    @contextmanager
    def writing(self, status: dict[str, Any]) -> Iterator[None]:
        """Around the write of a step's checkpoint with this status; nothing else is shown then."""
        with self._lock:
            yield
            self.wrote(status)

    def show(self, **changes: Any) -> None:
        """Write the status between two checkpoints, with changes.

        Raises:
            LeaseLost: Another runner leads now.
            StoreError: The store is out of reach.
        """
        with self._lock:
            self._show(**changes)

    def show_threads(self) -> None:
        """Write the status if a thread has died or failed, or the processor time has become too
        little or enough, since it was last written.

        Raises:
            StoreError: The store is out of reach.
        """
        if not self._written or self._marks() == self._shown:
            return
        if self._lock.acquire(blocking=False):  # else a write in hand shows them
            try:
                self._show()
            finally:
                self._lock.release()

    def _show(self, **changes: Any) -> None:
        token = self._token()
        self._written = {**self._written, **changes, "time": time.time()}
        if token is not None:
            self._store.show_status(token, self.current())
            self._shown = self._marks()

    def step_failed(self, error: Exception) -> None:
        """Count a failed step; be loud once it has failed `TROUBLE_AFTER` times in a row."""
        self._failing += 1
        if self._failing != TROUBLE_AFTER:
            return
        at = self._written.get("cursors", {})
        self._trouble = (
            f"The healing step has failed {self._failing} times in a row, after prediction "
            f"{at.get('predictions', '?')} and label {at.get('feedback', '?')} of the logs. "
            f"It is tried again, and no label is learned until it succeeds. "
            f"{brief(error)}"
        )
        log.critical("%s", self._trouble)
        self._tell("step_failing", {"reason": self._trouble, **at})

    def step_passed(self) -> None:
        """Take note that a step went through."""
        failed, self._failing = self._failing, 0
        if self._trouble:
            self._trouble = ""
            log.warning("the healing step works again after %d failures", failed)
            self._tell("step_recovered", {"failures": failed})

    def _tell(self, kind: str, detail: dict[str, Any]) -> None:
        try:
            self._store.add_event(Event(kind, detail, time.time()))
            if self._written:
                self.show()
        except StoreError as error:
            log.warning("%s could not be shown: %s", kind, error)

    def _marks(self) -> list[tuple[Any, ...]]:
        marks: list[tuple[Any, ...]] = [
            (t["name"], t["alive"], t["failures"]) for t in self._threads()
        ]
        others = self._others()
        cpu = others.get("cpu", {})
        marks.append(("cpu", bool(cpu.get("starved")), int(cpu.get("raised", False))))
        marks += [(f["name"], not f["failing"], f["rows"]) for f in others.get("feeds", ())]
        marks += [
            (w["name"], w["failing"], w["delivered"], w["failed"], w["waiting"],
             w["oldest_seconds"] // AGE_STEP)
            for w in others.get("webhooks", ())
        ]  # fmt: skip
        return marks
