"""How far the process of a candidate stands back behind those who answer requests."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

LOWER_BY = 10
AWAITED_SECONDS = 2.0
SESSION = Path("/proc/self/autogroup")


def begin_idle() -> None:
    """Let this thread, which loads the model, run only while nobody else wants its core.

    Wherever a request has to wait for the rest of somebody's time slice, it would wait for this
    one too: beside threads of this policy alone Linux counts a core as free.
    """
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Priority:
    """Lowers the process's session, and threads for whose work nobody waits.

    Linux may schedule whole sessions against each other (``sched_autogroup_enabled``, sched(7)):
    the niceness of a thread then counts within its session only, and a process that shares the
    session of one worker makes all other workers wait for the rest of its time slice. A thread
    cannot be raised again; a session can, and is, while requests wait for the candidate.
    """

    def __init__(self) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._low = min(self._usual + LOWER_BY, 19)
        self._raised = False
        self._asked = 0.0
        self._renice(self._low)

    def stand_back(self) -> None:
        """Lower the calling thread."""
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._low)

    def asked(self) -> None:
        """Raise the session: somebody waits."""
        self._asked = time.monotonic()
        if not self._raised:
            self._raised = True
            self._renice(self._usual)

    def settle(self) -> None:
        """Lower the session again once nobody has waited for a while."""
        if self._raised and time.monotonic() - self._asked > AWAITED_SECONDS:
            self._raised = False
            self._renice(self._low)

    def _renice(self, nice: int) -> None:
        with suppress(OSError):  # no Linux, or not allowed to
            SESSION.write_text(str(nice))
