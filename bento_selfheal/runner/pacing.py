"""Keeps the runner behind predictions: what it computes must not make them wait for a CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
READ_SHARE = 0.5
"""Share of one core that reading the logs may take on average."""


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


def rest_seconds(reading: float, healing: float, heal_share: float) -> float:
    """How long to rest after a step.

    Args:
        reading: Seconds of a core that the step spent on all but heals.
        healing: Seconds of a core that it spent on heals.
        heal_share: Share of one core that heals may take on average, over 0 up to 1.
    """
    read_share = max(heal_share, READ_SHARE)
    return reading * (1 / read_share - 1) + healing * (1 / heal_share - 1)
