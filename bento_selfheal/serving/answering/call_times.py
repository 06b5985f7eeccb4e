"""How long a call of a model takes: a part for the call itself, and one for each row."""

from __future__ import annotations

KEPT = 0.9
"""Share of the weight of older calls that is left after a new one."""


class CallTimes:
    """A line through the newest calls, by least squares, with older ones counting less and less.

    >>> times = CallTimes()
    >>> times.add(10, 2.0)
    >>> times.add(30, 4.0)
    >>> round(times.expected(1, 20), 3), round(times.expected(2, 20), 3)
    (3.0, 4.0)
    """

    def __init__(self) -> None:
        self._weight = self._rows = self._seconds = 0.0
        self._squares = self._products = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """Learn how long one call took."""
        self._weight = KEPT * self._weight + 1
        self._rows = KEPT * self._rows + rows
        self._seconds = KEPT * self._seconds + seconds
        self._squares = KEPT * self._squares + rows * rows
        self._products = KEPT * self._products + rows * seconds

    def expected(self, calls: int, rows: int) -> float:
        """Seconds that so many calls with so many rows in all should take; 0 while unknown."""
        if not self._weight:
            return 0.0
        spread = self._weight * self._squares - self._rows**2
        slope = 0.0
        if spread > 1e-6 * self._squares:
            slope = (self._weight * self._products - self._rows * self._seconds) / spread
        # Neither part can be negative, whatever noise says.
        slope = min(max(slope, 0.0), self._seconds / self._rows)
        each = (self._seconds - slope * self._rows) / self._weight
        return calls * each + rows * slope
