"""How much of a day's budget is left, and how fast it is spent."""

from __future__ import annotations

from dataclasses import dataclass

from bento_selfheal.core.review.asked_row import DAY

SLOWEST, FASTEST = 0.5, 2.0
"""Bounds of the pace, beside that of an even day: no row is ever not asked for, and the last rows
of a day are not all asked for, should fewer come than the day before."""


@dataclass
class Purse:
    """What was asked for on this day (UTC), so that a day's budget lasts for the day."""

    day: float = 0.0
    spent: int = 0

    def share(self, budget: int, rows_a_day: float, time: float) -> float:
        """Share of the rows to ask for now: what is left, spread over the rest of the day.

        Args:
            budget: Rows that people can label in a day.
            rows_a_day: Rows that come in a day.
            time: Now, in seconds since the epoch.
        """
        day, passed = divmod(time, DAY)
        if day != self.day:
            self.day, self.spent = day, 0
        usual = budget / max(rows_a_day, 1.0)
        left = (budget - self.spent) / max(rows_a_day * (1 - passed / DAY), 1.0)
        return min(max(left, SLOWEST * usual), FASTEST * usual, 1.0)
