"""The runner's place behind predictions: what it computes must not make them wait for a CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")


def stand_back(nice: int) -> None:
    """Lower this process's claim on the CPU, of itself and of its session.

    Linux may schedule whole sessions against each other (``sched_autogroup_enabled``, sched(7)):
    niceness then counts within a session only, and each of BentoML's processes has one of its own.

    Args:
        nice: Niceness added, 0 to 19.
    """
    os.nice(nice)
    if os.getsid(0) == os.getpid():  # else others would be held back with it
        with suppress(OSError):  # no Linux, or not allowed to
            AUTOGROUP.write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))
