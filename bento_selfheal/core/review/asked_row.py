"""Rows whose labels people are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY = 86_400.0
"""Seconds; a budget is for a day of UTC."""


@dataclass(frozen=True)
class AskedRow:
    """One row of the review queue."""

    request: bytes
    row: int
    chance: float
    """How likely it was to be asked for."""
    turn: float
    """Its place in the queue, in [0, 1): its draw over its chance. Whoever labels the first rows in
    this order labels a fair sample, however many they are (sequential Poisson sampling, Ohlsson
    1998)."""
    why: str
    """What speaks for it, in words."""
    time: float
    """When it was answered, in seconds since the epoch."""


@dataclass(frozen=True)
class ShownRow:
    """A row that somebody is given to look at."""

    asked: AskedRow
    rows: int
    """How many its request has."""
    features: NDArray[np.float32]
    """``(1, features)``"""
    probabilities: NDArray[np.float32]
    """As answered, ``(1,)`` or ``(1, classes)``."""


@dataclass(frozen=True)
class HandedOut:
    """Rows for one reviewer, in the order of their turns."""

    rows: list[ShownRow]
    left: int | None
    """Rows that may still be handed out today; None without a budget."""
