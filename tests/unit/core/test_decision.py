"""Which operating point belongs to what serves."""

from __future__ import annotations

import json

import pytest

from bento_selfheal.core.decision import serving_point
from bento_selfheal.core.records import OperatingPoint, PointKind, Promotion, PromotionKind

OWN = OperatingPoint(0.25, PointKind.COSTS)
MOVED = OperatingPoint(0.75, PointKind.UNVERIFIED)


def promotion(point: OperatingPoint | None) -> Promotion:
    return Promotion(
        PromotionKind.PROMOTE, 7, "m:7", "ab", "why", 9.0, operating_point=point, seq=3
    )


@pytest.mark.parametrize(
    ("own", "version", "expected"),
    [
        (OWN, 7, MOVED),
        (None, 7, MOVED),
        (OWN, 3, OWN),
        (OWN, 9, OWN),
        (None, 3, OperatingPoint()),
        (OWN, None, OWN),
        (None, None, MOVED),
    ],
    ids=["moved since", "moved since, none of its own", "of the model before", "of the next model",
         "of another, none of its own", "of an old store", "of an old store, none of its own"],
)  # fmt: skip
def test_moved_point(
    own: OperatingPoint | None, version: int | None, expected: OperatingPoint
) -> None:
    """A moved operating point holds only for the snapshot that it was meant for."""
    told = MOVED.as_dict() | ({} if version is None else {"version": version})
    assert serving_point(promotion(own), json.dumps(told)) == expected


def test_never_moved() -> None:
    """Without a moved point the promotion's own holds; without either, the default."""
    assert serving_point(promotion(OWN), None) == OWN
    assert serving_point(promotion(None), None) == OperatingPoint()
