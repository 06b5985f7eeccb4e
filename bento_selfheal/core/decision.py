"""From probabilities to the class that is named: the same rule in the service and in its client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.records import OperatingPoint, PointKind, Promotion

Numbers = NDArray[np.floating[Any]]
THRESHOLD = 0.5


def decide_classes(
    probabilities: Numbers, threshold: float | Numbers = THRESHOLD
) -> NDArray[np.int64]:
    """The class of each row: at the threshold of two, the likeliest of many, ``(n,)``.

    The threshold is one for all rows, or one for each, ``(n,)``.
    """
    p = np.asarray(probabilities)
    if p.ndim == 1:
        return np.asarray(p >= threshold, dtype=np.int64)
    return np.asarray(p.argmax(axis=1), dtype=np.int64)


def serving_point(promotion: Promotion, moved: str | None) -> OperatingPoint:
    """The operating point that belongs to what serves.

    Args:
        promotion: The newest promotion.
        moved: The operating point that the runner last moved, as JSON with the ``version`` of the
            snapshot it was meant for.

    Returns:
        The moved point where it is meant for the promoted snapshot, else the promotion's own. A
        moved point of an old store names no version: it counts where the promotion has no point.
    """
    point = json.loads(moved) if moved else {}
    if point.get("version") == promotion.version:
        return point_of(point)
    if promotion.operating_point is not None:
        return promotion.operating_point
    return point_of(point) if point and "version" not in point else OperatingPoint()


def point_of(values: Mapping[str, Any]) -> OperatingPoint:
    """An operating point from its JSON values.

    >>> point_of({"threshold": 0.25, "kind": "costs"}).threshold
    0.25
    """
    return OperatingPoint(values["threshold"], PointKind(values["kind"]))
