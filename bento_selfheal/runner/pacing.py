"""Keeps the runner behind predictions: what it computes must not make them wait for a CPU."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

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


def load_optimizer() -> None:
    """Load what torch loads with the first step of any optimizer.

    That takes seconds of a core. After `stand_back`, on a busy machine, the first heal would wait
    for it for a minute and more.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def rest_seconds(reading: float, healing: float, heal_share: float) -> float:
    """How long to rest after a step.

    Args:
        reading: Seconds of a core that the step spent on all but heals.
        healing: Seconds of a core that it spent on heals.
        heal_share: Share of one core that heals may take on average, over 0 up to 1.
    """
    read_share = max(heal_share, READ_SHARE)
    return reading * (1 / read_share - 1) + healing * (1 / heal_share - 1)
