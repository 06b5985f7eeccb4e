"""Keeps the runner behind predictions: what it computes must not make them wait for a CPU."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

log = logging.getLogger(__name__)

AUTOGROUP, TASKS = Path("/proc/self/autogroup"), Path("/proc/self/task")
STARVED = 0.1
"""Share of the processor time asked for below which a runner that has work claims more."""
RAISED_NICE = 5
"""Niceness added then: a quarter of a core where another process wants all of it."""
WINDOW_SECONDS = 10.0
LEAST_ASKED = 0.02
"""Of a window: with less asked for, the share says nothing."""
READ_SHARE = 0.5
"""Share of one core that reading the logs may take on average while the runner is behind."""
KEPT_UP_SHARE = 0.1
"""The same once all is read: each step writes a checkpoint, so fewer and longer ones cost less."""
LONGEST_REST = 0.15
"""Of a runner that has read all: a label must not wait long for its effect."""


class Pace:
    """How far the runner's process stands back behind predictions.

    Linux may schedule whole sessions against each other (``sched_autogroup_enabled``, sched(7)):
    niceness then counts within a session only, and each of BentoML's processes has one of its own.
    So both are lowered. Where all cores are busy the process gets a thirtieth of one that way; if
    that starves it while there is something to read, it stands back less until all is read.

    Args:
        nice: Niceness added, 0 to 19.
    """

    def __init__(self, nice: int) -> None:
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._back = min(usual + nice, 19)
        self._raised_to = min(usual + RAISED_NICE, self._back)
        self._busy: set[str] = set()
        self._time = ProcessorTime()
        self._share: float | None = None
        self._raised = False

    def stand_back(self) -> None:
        """Lower this process's claim on the CPU, of itself and of its session."""
        renice(self._back)

    def works(self, who: str, busy: bool) -> None:
        """Take note whether one of the process's runners has something to read."""
        (self._busy.add if busy else self._busy.discard)(who)

    def keep(self) -> None:
        """Raise the claim where it starves the runners, and lower it once they have caught up."""
        share = self._time.share()
        if share is not None:
            self._share = share
        if self._raised and not self._busy:
            self._renice(self._back, raised=False)
        elif share is not None and share < STARVED and self._busy and not self._raised:
            self._renice(self._raised_to, raised=True)

    def state(self) -> dict[str, Any]:
        """As the status shows it."""
        starved = self._share is not None and self._share < STARVED
        return {"share": self._share, "starved": starved, "raised": self._raised}

    def _renice(self, nice: int, *, raised: bool) -> None:
        renice(nice)
        self._raised = raised
        log.info("the runner's niceness is %d: %s", nice,
                 f"it got {self._share:.1%} of the processor time it asked for" if raised
                 else "it has caught up")  # fmt: skip


class ProcessorTime:
    """Which share of the processor time that this process asked for it got, from what Linux counts
    of each thread: time that it ran, and time that it waited for a core (``schedstat``)."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self._at = -math.inf

    def share(self) -> float | None:
        """The share since the last one; None before `WINDOW_SECONDS` have passed, and where the
        system does not count. 1 where next to nothing was asked for."""
        now = time.monotonic()
        if now - self._at < WINDOW_SECONDS or not (threads := _threads()):
            return None
        first = self._at == -math.inf
        deltas = [np.subtract(two, self._last.get(tid, (0, 0))) for tid, two in threads.items()]
        ran, waited = (float(ns) / 1e9 for ns in np.sum(deltas, axis=0))
        span, self._last, self._at = now - self._at, threads, now
        if first:
            return None
        return ran / (ran + waited) if ran + waited > LEAST_ASKED * span else 1.0


def _threads() -> dict[str, tuple[int, int]]:
    """Nanoseconds that each thread of this process has run and waited."""
    found = {}
    for task in TASKS.glob("*"):
        with suppress(OSError, ValueError):  # it has ended, or the system does not count
            ran, waited, _ = (task / "schedstat").read_text().split()
            found[task.name] = (int(ran), int(waited))
    return found


def renice(nice: int) -> None:
    """Set the niceness of every thread of this process, and of its session where it leads one.

    Threads may become nicer only, without privileges; a session may change both ways.
    """
    for task in list(TASKS.glob("*")) or [Path("0")]:
        with suppress(OSError):  # it has ended, or that needs privileges
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
    if os.getsid(0) == os.getpid():  # else others would be held back with it
        with suppress(OSError):  # no Linux, or not allowed to
            AUTOGROUP.write_text(str(nice))


def load_optimizer() -> None:
    """Load what torch loads with the first step of any optimizer.

    That takes seconds of a core. After `stand_back`, on a busy machine, the first heal would wait
    for it for a minute and more.
    """
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def rest_seconds(
    reading: float, healing: float, heal_share: float, *, behind: bool = False
) -> float:
    """How long to rest after a step.

    Args:
        reading: Seconds that the step spent on all but heals.
        healing: Seconds of a core that it spent on heals.
        heal_share: Share of one core that heals may take on average, over 0 up to 1; with 1 the
            runner does not rest.
        behind: Whether there was more to read.
    """
    if behind or heal_share == 1:
        rest = reading * (1 / max(heal_share, READ_SHARE) - 1)
    else:
        rest = min(reading * (1 / KEPT_UP_SHARE - 1), LONGEST_REST)
    return rest + healing * (1 / heal_share - 1)
