"""Suggestions for mixed tables: rules on categories, gaps, switches and dates; what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.suggest import Suggestion, suggest
from bento_selfheal.rules import RuleSet

SKIES = tuple(f"sky {i}" for i in range(200))
COLUMNS = (
    Column(name="speed", nullable=True, origin=1e6),
    Column(name="sky", kind=Kind.CATEGORY, nullable=True, levels=("clear", "fog", "hail", "rain")),
    Column(name="at night", kind=Kind.BOOLEAN, nullable=True),
    Column(name="at", kind=Kind.DATETIME, nullable=True, origin=20_000.0),
    Column(name="rare", kind=Kind.CATEGORY, levels=SKIES),
    Column(name="empty", nullable=True),
)
NAMES = [column.name for column in COLUMNS]


def table(turn: str, n: int = 3000, seed: int = 1) -> tuple[Any, Any]:
    """Codes of rows, and classes that one thing decides in nine of ten rows."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        speed = None if draw.random() < 0.3 else 1e6 + float(draw.normal())
        at = f"2026-01-{1 + i % 28:02d}T{int(draw.integers(24)):02d}:30:00"
        sky, night = str(draw.choice(COLUMNS[1].levels)), bool(draw.random() < 0.3)
        rows.append([speed, sky, night, at, str(draw.choice(SKIES)), None])
    codes = Schema(COLUMNS).codes(rows)
    decides = {
        "gap": np.isnan(codes[:, 0]),
        "speed": codes[:, 0] > 1,
        "sky": np.isin(codes[:, 1], [1, 2]),
        "night": codes[:, 2] == 1,
        "weekday": np.floor(codes[:, 3] + 20_000 + 3) % 7 >= 5,
        "hour": np.floor(codes[:, 3] % 1 * 24) >= 20,
        "nothing": draw.random(n) < 0.3,
    }[turn]
    return codes, np.where(draw.random(n) < 0.9, decides, ~decides).astype(np.int64)


def found(turn: str) -> Suggestion:
    codes, labels = table(turn)
    return suggest(codes, labels, NAMES, columns=COLUMNS)


@pytest.mark.parametrize(
    ("turn", "sensitive", "rule"),
    [
        ("gap", "speed", "speed is missing -> class 1"),
        ("sky", "sky", "sky in fog, hail -> class 1"),
        ("night", "at night", "at night == true -> class 1"),
        ("weekday", "at", "weekday of at in Saturday, Sunday -> class 1"),
        ("hour", "at", "hour of at in 20, 21, 22, 23 -> class 1"),
    ],
)
def test_what_decides_is_suggested(turn: str, sensitive: str, rule: str) -> None:
    """The column is found, and the best rule for class 1 says what decides, in the user's words;
    it does on fresh rows what is said of it."""
    said = found(turn)
    assert said.sensitive == [sensitive]
    [best] = [r for r in said.rules if r.rule.target == 1]
    assert sorted(str(best.rule).replace(",", "").split()) == sorted(rule.replace(",", "").split())
    codes, labels = table(turn, seed=9)
    fires = RuleSet([best.rule], NAMES, COLUMNS).fires(codes)[:, 0]
    assert best.precision == pytest.approx(labels[fires].mean(), abs=0.06)


def test_a_number_with_gaps_keeps_its_threshold() -> None:
    """The threshold is in the feature's own unit, and rows without a value do not move it."""
    best = found("speed").rules[0].rule
    assert (best.feature, best.operator, best.target) == ("speed", ">", 1)
    assert best.value == pytest.approx(1e6 + 1, abs=0.2)


def test_noise_suggests_nothing_of_any_kind() -> None:
    """Labels that have nothing to do with categories, gaps, switches and dates."""
    said = found("nothing")
    assert (said.sensitive, said.rules) == ([], [])


def test_what_is_left_out_is_told() -> None:
    """Dates that never come again, categories too rare to judge, and columns without values."""
    codes, labels = table("sky", n=1000)
    said = suggest(codes, labels, NAMES, columns=COLUMNS).left_out
    assert set(said) == {"at", "rare", "empty"}
    assert "only weekday and hour are tried" in said["at"]
    assert "of 200 categories come less than 7 times" in said["rare"]
    assert said["empty"] == "it has no values"
