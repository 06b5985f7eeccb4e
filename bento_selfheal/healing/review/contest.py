"""How the challenger stands against what serves, as the review queue wants to know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds

Answers = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""What the challenger says of rows ``(n, features)``."""


@dataclass(frozen=True)
class Contest:
    """The challenger on its way to the gate."""

    answers: Answers
    costs: Thresholds
    """What mistakes cost, as the gate counts them."""
    proven: bool = False
    """Whether its line is let through as it goes on"""
