"""Conditions on a column: where they hold, and which are refused with what they name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.rules import Rule, RuleSet, parse_rule

COLUMNS = (
    Column(name="Speed in knots", nullable=True),
    Column(name="stamp", origin=1.7e9),
    Column(name="engines", kind=Kind.INTEGER),
    Column(name="at night", kind=Kind.BOOLEAN, nullable=True),
    Column(name="sky", kind=Kind.CATEGORY, nullable=True, levels=("clear", "fog, light", "7")),
    Column(name="day", kind=Kind.DATETIME, nullable=True, origin=10_000.4),
)
NAMES = [column.name for column in COLUMNS]
ROWS = [
    [90.5, 1.7e9 + 5, 1, True, "clear", "1990-01-07"],  # a Sunday
    [120.0, 1.7e9, 2, False, "fog, light", "1990-01-08T21:00:00Z"],
    [None, 1.7e9 - 5, 4, None, "snow", "1990-01-08T23:59:00Z"],
    [200.0, 1.7e9 + 7, 2, True, None, None],
    [0.1, 1.7e9, 2, False, "7", "1990-01-09T00:00:00Z"],
]


def fired(rule: Rule) -> list[int]:
    """The rows on which a rule fires."""
    codes = Schema(COLUMNS).codes(ROWS)
    return np.flatnonzero(RuleSet([rule], NAMES, COLUMNS).fires(codes)[:, 0]).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Speed in knots < 100", [0, 4]),
        ("Speed in knots <= 120", [0, 1, 4]),
        ("Speed in knots == 0.1", [4]),
        ("Speed in knots != 120", [0, 3, 4]),
        ("Speed in knots in 120, 200", [1, 3]),
        ("Speed in knots within 90.5, 120", [0, 1]),
        ("Speed in knots is missing", [2]),
        ("Speed in knots is not missing", [0, 1, 3, 4]),
        ("stamp > 1700000000", [0, 3]),
        ("stamp == 1700000005", [0]),
        ("engines >= 1.5", [1, 2, 3, 4]),
        ("engines not in 2", [0, 2]),
        ("at night == true", [0, 3]),
        ("at night != true", [1, 4]),
        ("at night > 0.5", [0, 3]),
        ("at night is missing", [2]),
        ("sky == clear", [0]),
        ('sky in clear, "fog, light"', [0, 1]),
        ("sky != clear", [1, 2, 4]),
        ("sky not in clear, 7", [1, 2]),
        ("sky is missing", [3]),
        ("day < 1990-01-08", [0]),
        ("day <= 1990-01-08", [0, 1, 2]),
        ("day > 1990-01-08", [4]),
        ("day == 1990-01-08", [1, 2]),
        ("day >= 1990-01-08T21:00:00Z", [1, 2, 4]),
        ("day > 1990-01-08T22:00:00+01:00", [2, 4]),
        ("day within 1990-01-07, 1990-01-08", [0, 1, 2]),
        ("day == 19900108", [1, 2]),
        ("day is not missing", [0, 1, 2, 4]),
        ("weekday of day == Sunday", [0]),
        ("weekday of day not in Sunday, Monday", [4]),
        ("hour of day >= 21", [1, 2]),
        ("hour of day in 0, 23", [0, 2, 4]),
        ("hour of day within 20, 22", [1]),
    ],
)
def test_where_rules_fire(text: str, rows: list[int]) -> None:
    """Each condition in words, on values as rows have them; a missing value only where it is asked
    for. A rule is written as it is read, and survives JSON."""
    rule = parse_rule(text, [0, 1], COLUMNS)
    assert fired(rule) == rows
    assert parse_rule(str(rule).replace("class ", ""), [0, 1], COLUMNS) == rule
    assert Rule.model_validate(json.loads(rule.model_dump_json())) == rule


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"feature": "sky", "operator": "==", "value": "fgo"},
         r"'sky' \(category\), == 'fgo': 'fgo' is not one of its categories: clear, fog, light"),
        ({"feature": "sky", "value": 3}, r"'sky' \(category\), < 3.0: categories have no order"),
        ({"feature": "sky", "operator": "in", "value": "clear"}, "in 'clear': it needs a list"),
        ({"feature": "sky", "operator": "==", "value": ["7"]}, "== .*'7'.*: it needs one value"),
        ({"feature": "sky", "operator": "in", "value": []}, "in .*: it needs a value"),
        ({"feature": "day", "value": "8 January"}, "'day' .*, < '8 January': a date such as"),
        ({"feature": "day", "value": 9.0}, "'day' .*, < 9.0: a date such as"),
        ({"feature": "day", "value": "1990-01-08T21:00:30Z"},
         "< '1990-01-08T21:00:30Z': .* to 21 seconds; give it in whole minutes"),
        ({"feature": "day", "value": "2030-01-01T09:00:00Z"}, "to 84 .*; give it in whole days"),
        ({"feature": "day", "operator": "within", "value": ["1990-02-01", "1990-01-01"]},
         "within .*1990-02-01.*: the first is above the last"),
        ({"feature": "day", "operator": "within", "value": ["1990-02-01"]}, "it needs two values"),
        ({"feature": "day", "part": "weekday", "operator": "==", "value": "Sun"},
         "'day' .*, == 'Sun': 'Sun' is no weekday; they are Monday"),
        ({"feature": "day", "part": "weekday", "value": "Sunday"}, "weekdays have no order"),
        ({"feature": "day", "part": "hour", "value": 24}, "24.0 is no hour from 0 to 23"),
        ({"feature": "engines", "part": "hour", "value": 2}, "an? integer has no hour"),
        ({"feature": "engines", "value": "two"}, "'engines' .*, < 'two': a finite number"),
        ({"feature": "Speed in knots", "value": "clear"}, "'Speed in knots' .*, < 'clear'"),
        ({"feature": "at night", "operator": "==", "value": "yes"}, "== 'yes': true or false"),
        ({"feature": "at night", "operator": "==", "value": 0.7}, "== 0.7: true or false"),
        ({"feature": "engines", "operator": "==", "value": 2.5}, "== 2.5: a whole number"),
        ({"feature": "engines", "operator": "in", "value": [2, 2.5]}, "in .*: a whole number"),
        ({"feature": "engines", "operator": "is missing"}, "is missing: the column is never"),
        ({"feature": "Speed", "value": 1}, "unknown features .*'Speed'.*; known: .*Speed in knots"),
    ],
)  # fmt: skip
def test_bad_rules_are_refused(rule: dict[str, Any], message: str) -> None:
    """The message names the column, the operator and the value."""
    with pytest.raises(ValueError, match=message):
        RuleSet([Rule.model_validate(rule)], NAMES, COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky", "is not 'feature < value -> class'; the features are .*'sky'"),
        ("clouds == clear", "is not .*the features are"),
        ("engines < two", "could not convert string to float: 'two'"),
        ("engines < 1, 2", "'<' needs one value, got '1, 2'"),
        ("sky == rain, heavy", "'==' needs one value, got 'rain, heavy'; .* needs \"quotes\""),
        ("sky is missing fog", "'is missing' takes no value, got 'fog'"),
        ("sky == clear -> late", "'late' is not a class; the classes are 0, 1"),
    ],
)
def test_bad_text_is_refused(text: str, message: str) -> None:
    """What cannot be read as a rule is told with what there is."""
    with pytest.raises(SettingsError, match=message):
        parse_rule(text, [0, 1], COLUMNS)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("at < 2024-10-05T12:00:00Z", [0]),
        ("at <= 2024-10-05T12:00:00Z", [0, 1]),
        ("at == 2024-10-05T12:00:15Z", [2]),
        ("at > 2024-10-05T12:00:14Z", [2, 3, 4]),
        ("at != 2024-10-05T12:00:00Z", [0, 2, 3, 4]),
        ("at within 2024-10-05T11:59:45Z, 2024-10-05T12:00:15Z", [0, 1, 2]),
        ("at within 2024-10-05T12:00:15Z, 2024-10-05", [2, 3]),
        ("at <= 2024-10-05", [0, 1, 2, 3]),
        ("at == 2024-10-06", [4]),
        ("hour of at == 11", [0]),
        ("hour of at in 12, 0", [1, 2, 4]),
        ("weekday of at == Saturday", [0, 1, 2, 3]),
    ],
)
def test_times_are_compared_to_the_second(text: str, rows: list[int]) -> None:
    """A quarter of a minute before the hour, or before midnight, is before it."""
    at = [Column(name="at", kind=Kind.DATETIME, origin=20_000.3)]
    times = ["05T11:59:45", "05T12:00:00", "05T12:00:15", "05T23:59:45", "06T00:00:00"]
    codes = Schema(at).codes([[f"2024-10-{time}Z"] for time in times])
    fires = RuleSet([parse_rule(text, [0, 1], at)], ["at"], at).fires(codes)
    assert np.flatnonzero(fires[:, 0]).tolist() == rows


def test_a_category_with_an_arrow_in_its_name() -> None:
    """In quotes it is a value, alone and in a list, with a class behind it or without, and a rule
    writes it so. A quote in the middle of a value is a part of it."""
    levels = ("A->B", "B->A, by sea", '5" -> 6"', '5"', "A")
    columns = [Column(name="way", kind=Kind.CATEGORY, levels=levels)]
    for text, value, target in [
        ('way == "A->B" -> late', "A->B", 1),
        ('way == "A->B"', "A->B", 1),
        ('way in A, "B->A, by sea","A->B" -> in time', ("A", "B->A, by sea", "A->B"), 0),
        ('way == "5"" -> 6""" -> in time', '5" -> 6"', 0),
        ('way == 5" -> in time', '5"', 0),
    ]:
        rule = parse_rule(text, ["in time", "late"], columns)
        assert (rule.value, rule.target) == (value, target)
        again = parse_rule(f"{rule.condition} -> in time", ["in time", "late"], columns)
        assert again.value == value
    with pytest.raises(SettingsError, match=r"'B' is not a class; .* -> in it needs \"quotes"):
        parse_rule("way == A->B", ["in time", "late"], columns)


def test_a_column_is_named_before_a_part_of_one() -> None:
    """A table may have the hour of its date in a column of its own."""
    columns = [Column(name="hour of day"), Column(name="day", kind=Kind.DATETIME)]
    rule = parse_rule("hour of day < 30", [0, 1], columns)
    assert (rule.part, rule.feature) == ("", "hour of day")


def test_a_rule_below_infinity_holds() -> None:
    """An earlier release packaged such rules, and their packages open."""
    assert fired(Rule(feature="engines", value=float("inf"))) == [0, 1, 2, 3, 4]
    assert fired(Rule(feature="Speed in knots", operator=">", value=-float("inf"))) == [0, 1, 3, 4]
