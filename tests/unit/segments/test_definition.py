"""Segments by a setting: who is in which, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bento_selfheal.config.segments import Segment
from bento_selfheal.config.settings import Settings, load_settings
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.segments.definition import LeftOutSegments, Segments, segments_of

COLUMNS = [
    Column(name="amount", nullable=True, origin=100.0),
    Column(name="sky", kind=Kind.CATEGORY, levels=("clear", "fog, dense"), nullable=True),
    Column(name="member", kind=Kind.BOOLEAN),
    Column(name="day", kind=Kind.DATETIME),
    Column(name="age", kind=Kind.INTEGER),
]
NAMES = [column.name for column in COLUMNS]


def made(*told: dict[str, Any], hidden: int = 0) -> Segments:
    """Segments of the columns above, as JSON names them."""
    return segments_of([Segment.model_validate(one) for one in told], NAMES, COLUMNS, hidden)


def inside(segments: Segments, column: str, codes: list[float]) -> dict[str, list[int]]:
    """Which rows are in each segment, by its name, of rows that differ in one column."""
    rows = np.zeros((len(codes), len(NAMES)), dtype=np.float32)
    rows[:, NAMES.index(column)] = codes
    members = segments.members(rows)
    return {n: np.flatnonzero(members[:, i]).tolist() for i, n in enumerate(segments.names)}


def test_ranges_hold_their_lower_bound() -> None:
    """A bound belongs to the range above it, in the column's own unit; a gap is its own segment."""
    found = inside(
        made({"column": "amount", "ranges": [0, 100.5]}), "amount", [-101, -100, 0, 0.5, np.nan]
    )
    assert found == {
        "amount < 0": [0], "0 <= amount < 100.5": [1, 2], "amount >= 100.5": [3],
        "amount is missing": [4],
    }  # fmt: skip


def test_categories_unseen_and_missing() -> None:
    """Each known value is a segment; what training never saw is another, and so is a gap."""
    found = inside(made({"column": "sky"}), "sky", [0, 1, 2, np.nan])
    assert found == {
        "sky = clear": [0], 'sky = "fog, dense"': [1], "sky (unseen)": [2], "sky is missing": [3],
    }  # fmt: skip


def test_booleans() -> None:
    """True and false are segments."""
    assert inside(made({"column": "member"}), "member", [1, 0]) == {
        "member = true": [0], "member = false": [1],
    }  # fmt: skip


def test_rules_overlap_and_have_names() -> None:
    """A rule's own name, or its text; a row may be in several segments or in none."""
    segments = made({"rule": "age < 25", "name": "young"}, {"rule": "age < 40"})
    assert inside(segments, "age", [20, 30, 50]) == {"young": [0], "age < 40": [0, 1]}


def test_a_rule_fires_on_no_gap() -> None:
    """A row that lacks the value is in no segment of a rule on it."""
    assert inside(made({"rule": "amount < 1e9"}), "amount", [0, np.nan]) == {"amount < 1e+09": [0]}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"column": "sum"}, "there is no column 'sum'; the columns are"),
        ({"column": "amount"}, "'amount' is a number, which has too many values; give its ranges"),
        ({"column": "day"}, "'day' is a datetime, which has too many values; give a rule"),
        ({"column": "sky", "ranges": [1]}, "'sky' is a category, which has no ranges"),
        ({"column": "member", "ranges": [1]}, "'member' is a boolean, which has no ranges"),
        ({"rule": "sum < 3"}, "rule 'sum < 3'"),
        ({"rule": "age < 3 -> 1"}, "a segment names no class"),
        ({"rule": "nonsense"}, "rule 'nonsense'"),
        ({"rule": "sky == snow"}, "rule 'sky == snow'"),
    ],
    ids=["no-column", "number", "date", "category-range", "boolean-range", "rule-column",
         "rule-class", "rule-form", "rule-level"],
)  # fmt: skip
def test_what_does_not_fit_the_model(told: dict[str, Any], why: str) -> None:
    """The error names the setting, and the value that does not fit."""
    with pytest.raises(SettingsError, match=r"^segments: ") as failed:
        made(told)
    assert why in str(failed.value)


def test_two_of_one_name() -> None:
    """A name stands for one segment."""
    with pytest.raises(SettingsError, match="two segments are named 'age < 25'"):
        made({"rule": "age < 25"}, {"column": "age", "ranges": [25]})


def test_more_than_a_hundred() -> None:
    """The error says how many there are, and which column makes them."""
    levels = tuple(f"v{i}" for i in range(100))
    column = Column(name="shop", kind=Kind.CATEGORY, levels=levels)
    with pytest.raises(SettingsError, match=r"101 segments, .*column 'shop' makes 101"):
        segments_of([Segment(column="shop")], ["shop"], [column])
    fewer = column.model_copy(update={"levels": levels[:99]})
    assert len(segments_of([Segment(column="shop")], ["shop"], [fewer])) == 100


def test_of_a_hidden_vector() -> None:
    """Only named facts beside the vector can be segments; without any, the error says so."""
    with pytest.raises(SettingsError, match=r"'amount' is a part of the hidden vector"):
        made({"column": "amount", "ranges": [1]}, hidden=2)
    with pytest.raises(SettingsError, match="only a hidden vector is logged"):
        made({"column": "age", "ranges": [1]}, hidden=len(NAMES))
    assert made({"column": "age", "ranges": [1]}, hidden=2).names == ["age < 1", "age >= 1"]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "give either column, with or without ranges, or rule"),
        ({"column": "a", "rule": "a < 1"}, "give either column"),
        ({"column": "a", "ranges": []}, "at least 1"),
        ({"column": "a", "ranges": [1, 1]}, "each bound must be larger"),
        ({"column": "a", "ranges": [2, 1]}, "each bound must be larger"),
        ({"column": "a", "ranges": [float("nan")]}, "finite numbers"),
        ({"rule": "a < 1", "ranges": [1]}, "a rule has none"),
        ({"rule": "  "}, "the rule is empty"),
        ({"column": "a", "name": "x"}, "only a rule has a name"),
        ({"colunm": "a"}, "colunm"),
    ],
    ids=["empty", "both", "no-bound", "equal", "falling", "nan", "rule-ranges", "blank", "named",
         "misspelt"],
)  # fmt: skip
def test_what_no_setting_may_say(told: dict[str, Any], why: str) -> None:
    """What cannot be meant is refused before a model is opened."""
    with pytest.raises(ValidationError, match=why):
        Segment.model_validate(told)


def test_left_out_keeps_its_rows_to_the_bit() -> None:
    """What a snapshot stores finds the same rows again; other columns or damage are refused."""
    segments = made({"column": "sky"}, {"column": "amount", "ranges": [0, 100.5]})
    left = LeftOutSegments(segments.only(['sky = "fog, dense"', "0 <= amount < 100.5"]))
    again = LeftOutSegments.read(left.state, NAMES, COLUMNS)
    rows = np.zeros((4, len(NAMES)), dtype=np.float32)
    rows[:, 0], rows[:, 1] = [-101, 0, 1, np.nan], [0, 0, 1, np.nan]
    assert again.names == left.names
    assert again(rows).tolist() == left(rows).tolist() == [False, True, True, False]
    assert again.state.tolist() == left.state.tolist()
    with pytest.raises(RuntimeError, match="cannot be read"):
        LeftOutSegments.read(left.state, NAMES[1:], COLUMNS[1:])
    with pytest.raises(RuntimeError, match="cannot be read"):
        LeftOutSegments.read(left.state[:-1], NAMES, COLUMNS)


def test_no_setting_is_no_segment() -> None:
    """Without the setting every row is in none."""
    assert made().members(np.zeros((3, len(NAMES)), dtype=np.float32)).shape == (3, 0)
    assert Settings().segments == ()


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON list; of several models each may have its own, as every setting of a model may."""
    monkeypatch.setenv("SELFHEAL_MODELS", "fraud,churn")
    monkeypatch.setenv("SELFHEAL_FRAUD__SEGMENTS", json.dumps([{"column": "sky"}]))
    monkeypatch.setenv("SELFHEAL_SEGMENTS", json.dumps([{"rule": "age < 25", "name": "young"}]))
    each = load_settings().each
    assert [one.column for one in each["fraud"].segments] == ["sky"]
    assert [one.name for one in each["churn"].segments] == ["young"]
    monkeypatch.setenv("SELFHEAL_SEGMENTS", '[{"column": "a", "ranges": [2, 1]}]')
    with pytest.raises(SettingsError, match=r"(?s)segments.*each bound must be larger"):
        load_settings()
