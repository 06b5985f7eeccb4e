"""From probabilities to the class that is named: the same rule in the service and in its client."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]


def decide_classes(probabilities: Numbers, threshold: float = 0.5) -> NDArray[np.int64]:
    """The class of each row: at the threshold of two, the likeliest of many, ``(n,)``."""
    p = np.asarray(probabilities)
    if p.ndim == 1:
        return np.asarray(p >= threshold, dtype=np.int64)
    return np.asarray(p.argmax(axis=1), dtype=np.int64)


THRESHOLD = 0.5
