"""How much of a day's budget is left, and how fast it is spent."""

from __future__ import annotations

from dataclasses import dataclass

from bento_selfheal.core.review.asked_row import DAY

SLOWEST, FASTEST = 0.5, 2.0
"""Bounds of the pace, beside that of an even day: no row is ever not asked for, and the last rows
of a day are not all asked for, should fewer come than the day before."""
FIRST_ROWS = 5
"""Rows that are asked for on the first day in any case: nobody knows its pace, and a small budget
that is spread over a day as busy as its first hour would ask for none."""


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

    def first_share(self, budget: int, rows: int, seconds: float) -> float:
        """Share of a request's rows to ask for while the pace of a day is unknown, once `share`
        was asked: none where the budget is large enough for that pace to ask for `FIRST_ROWS`.

        Args:
            budget: Rows that people can label in a day.
            rows: Of the request.
            seconds: In which the first rows are taken to have come.
        """
        if FASTEST * budget * seconds / DAY >= FIRST_ROWS:
            return 0.0
        wanted = max(min(budget, FIRST_ROWS) - self.spent, 0)
        return min(FASTEST * wanted / max(rows, 1), 1.0)
