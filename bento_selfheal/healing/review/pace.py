"""How many rows a day come, by the times of the log."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bento_selfheal.core.review.asked_row import DAY

FIRST_SECONDS = 3600.0
"""What the first rows are taken to have come in, at least: nobody knows yet how the day goes on."""


@dataclass
class Pace:
    """Counts rows over the last day, more or less: what is a day old counts a third."""

    rows: float = 0.0
    seconds: float = 0.0
    newest: float = 0.0

    def take(self, rows: int, time: float) -> None:
        """Count rows that were answered at this time, in seconds since the epoch."""
        passed = max(time - self.newest, 0.0) if self.newest else 0.0
        kept = math.exp(-passed / DAY)
        self.rows = self.rows * kept + rows
        self.seconds = self.seconds * kept + DAY * (1 - kept)
        self.newest = max(self.newest, time)

    @property
    def known(self) -> bool:
        """Whether rows were counted for a day."""
        return self.seconds >= DAY * (1 - math.exp(-1))

    @property
    def rows_a_day(self) -> float:
        """How many rows come in a day, by those so far."""
        return self.rows / max(self.seconds, FIRST_SECONDS) * DAY
