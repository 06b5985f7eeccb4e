"""What the healing runner has not read yet, and for how long.

It is seen by those who read the store: a runner that has stopped cannot say so itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

BEHIND_SECONDS = 60.0
"""From this age of the oldest unread entry on, the runner is behind."""
LOOK_SECONDS = 1.0
"""Shortest time between two notes of where a log ends."""
MOST_NOTES = 600
STARVED = 0.5
"""Share of the processor time that it asked for below which the lack of it is the reason."""


@dataclass(frozen=True)
class Unread:
    """What waits for the runner."""

    requests: int
    labels: int
    seconds: float
    """For how long the oldest of them has been in its log, as far as this process has seen."""

    @property
    def behind(self) -> bool:
        """Whether the runner is behind."""
        return self.seconds >= BEHIND_SECONDS


class Arrivals:
    """When the entries of one log came: a label's own time may be that of another day."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque()

    def oldest(self, now: float, end: int, read: int) -> float:
        """Seconds since the oldest entry after the place `read` was seen; 0 where all are read."""
        while self._notes and self._notes[0][1] <= read:
            self._notes.popleft()
        if end <= read:
            return 0.0
        newest = self._notes[-1] if self._notes else None
        if newest is None or (end > newest[1] and now - newest[0] >= LOOK_SECONDS):
            self._notes.append((now, end))
        if len(self._notes) > MOST_NOTES:
            self._notes = deque(list(self._notes)[::2])
        return now - self._notes[0][0]


class Backlog:
    """Watches how far the runner has read.

    Args:
        ends: The newest places of predictions, labels and commands.
        clock: Seconds that nobody sets.
    """

    def __init__(
        self,
        ends: Callable[[], tuple[int, int, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ends = ends
        self._clock = clock
        self._requests, self._labels = Arrivals(), Arrivals()
        self._lock = threading.Lock()

    def look(self, status: Mapping[str, Any]) -> Unread:
        """What is unread now.

        Args:
            status: As the runner last wrote it.

        Raises:
            StoreError: The store is out of reach.
        """
        cursors = status.get("cursors") or {"predictions": 0, "feedback": 0}
        requests, labels, _ = self._ends()
        read, learned = cursors["predictions"], cursors["feedback"]
        with self._lock:
            now = self._clock()
            ages = (
                self._requests.oldest(now, requests, read),
                self._labels.oldest(now, labels, learned),
            )
        return Unread(max(requests - read, 0), max(labels - learned, 0), max(ages))


def lag(status: Mapping[str, Any], unread: Unread, *, alive: bool) -> dict[str, Any] | None:
    """Why the runner is behind and what to change; None where it is not.

    Args:
        status: As the runner last wrote it.
        unread: What it has not read.
        alive: Whether a runner holds the lease.
    """
    if not unread.behind:
        return None
    reason, advice = _why(status, alive)
    return {"seconds": unread.seconds, "reason": reason, "advice": advice}


def _why(status: Mapping[str, Any], alive: bool) -> tuple[str, str]:
    share = (status.get("cpu") or {}).get("share")
    if not alive:
        return (
            "no runner leads: it was stopped, has died, or gets too little processor time to renew "
            "its lease",
            "look for HealingRunner in the service's log and among the host's processes",
        )
    if status.get("trouble"):
        return "its steps fail", "mend what the trouble in the status names"
    if share is not None and share < STARVED:
        return (
            f"it gets {share:.1%} of the processor time that it asks for",
            "give the service another core, or lower SELFHEAL_RUNNER_NICE",
        )
    return (
        "labels and predictions come faster than its settings let it work",
        "raise SELFHEAL_HEAL_SHARE, or log fewer requests with SELFHEAL_LOG_SAMPLE",
    )
