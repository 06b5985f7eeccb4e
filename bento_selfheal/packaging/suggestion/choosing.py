"""Chooses what a candidate rule compares with: a threshold of numbers, some of many categories."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from bento_selfheal.packaging.suggestion.class_counts import Floats

BETA = 1.5
"""Weight of recall against precision when a threshold is chosen."""
FLAT = 0.01
"""Share of the highest F-measure that a rounder threshold may cost."""
LIFT = 1.5
"""Precision over base rate, at least; so a class with two thirds of the rows gets no rule."""
RIGHT = 0.5
"""Precision, at least: a rule is right more often than wrong."""
CONFIDENCE = 0.99
"""One-sided confidence of a bound on a precision."""

MOST_NAMED = 10
"""Most categories of one rule, which people are to read."""


def threshold(
    values: Floats, hits: Floats, flagged: Floats, size: float, total: float
) -> float | None:
    """The threshold of one side, in the feature's unit; None where none clears the margin.

    Args:
        values: Distinct values, rising, ``(u,)``; cut i lies between values i and i + 1.
        hits: Rows of the class that a rule at each cut flags, ``(u - 1,)``.
        flagged: Rows of any class that it flags, ``(u - 1,)``.
        size: Rows of the class.
        total: All rows.
    """
    f = (1 + BETA**2) * hits / (flagged + BETA**2 * max(size, 1))
    f[_too_low(hits, flagged, size, total)] = 0
    if not len(f) or f.max() == 0:
        return None
    near = f >= (1 - FLAT) * f.max()
    top = int(f.argmax())
    breaks = np.flatnonzero(~near)
    at = int(np.searchsorted(breaks, top))
    first = int(breaks[at - 1]) + 1 if at > 0 else 0
    last = int(breaks[at]) - 1 if at < len(breaks) else len(f) - 1
    return _round(float(values[first]), float(values[last + 1]))


def _round(low: float, high: float) -> float:
    """The number of fewest decimals near the middle of low and high, and between them.

    >>> _round(-1.71, -1.34), _round(3, 4), _round(1200, 1900)
    (-1.5, 3.5, 1600.0)
    """
    middle = low / 2 + high / 2
    start = -math.ceil(math.log10(high - low))
    for decimals in range(start, start + 4):
        value = round(middle, decimals)
        if low < value < high:
            return value + 0.0  # never "-0"
    return middle


def lower_bound(hits: Any, flagged: Any) -> Any:
    """Wilson's lower bound, at `CONFIDENCE`, of the share hits / flagged."""
    z2 = NormalDist().inv_cdf(CONFIDENCE) ** 2
    n = np.maximum(flagged, 1)
    p = hits / n
    return (p + z2 / (2 * n) - np.sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n)) / (1 + z2 / n)


def best_levels(hits: Floats, rows: Floats, size: float, total: float) -> list[int]:
    """The categories that one rule names, the surest first; none where none clears the margin.

    Each is of the class more often than rows are at large; of these, as many as give the highest
    F-measure.

    Args:
        hits: Rows of the class with each category, ``(levels,)``.
        rows: Rows of any class with it.
        size: Rows of the class.
        total: All rows.
    """
    able = np.flatnonzero(lower_bound(hits, rows) > size / total)
    order = able[np.lexsort((-rows[able], -hits[able] / rows[able]))][:MOST_NAMED]
    caught, flagged = hits[order].cumsum(), rows[order].cumsum()
    f = (1 + BETA**2) * caught / (flagged + BETA**2 * max(size, 1))
    f[_too_low(caught, flagged, size, total)] = 0
    return [] if not len(f) or f.max() == 0 else order[: int(f.argmax()) + 1].tolist()


def _too_low(hits: Floats, flagged: Floats, size: float, total: float) -> Any:
    return lower_bound(hits, flagged) < max(RIGHT, LIFT * size / total)
