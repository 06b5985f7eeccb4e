"""Symbolic rules: their verdicts and their conflicts with the model."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from bento_selfheal.healing.evidence.rule_record import RuleRecord
from bento_selfheal.rules import Operator, Rule, RuleSet

FRAUD = Rule(feature="V14", operator="<", value=-1.5)
FEATURES = ["V1", "V14"]


def rows(*v14: float) -> NDArray[np.float32]:
    return np.array([[0.0, v] for v in v14], dtype=np.float32)


def chances(*p: float) -> NDArray[np.float32]:
    return np.array(p, dtype=np.float32)


def rule(operator: Operator, value: float, target: Literal[0, 1] = 1) -> Rule:
    return Rule(feature="V14", operator=operator, value=value, target=target)


def test_single_rule_verdicts() -> None:
    """The article's rule says 1 strictly below -1.5 and 0 elsewhere."""
    rules = RuleSet([FRAUD], FEATURES)
    assert rules.verdicts(rows(-1.6, -1.5, 0.0)).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("operator", "verdicts"),
    [("<", [1, 0, 0]), ("<=", [1, 1, 0]), (">", [0, 0, 1]), (">=", [0, 1, 1])],
)
def test_operators(operator: Operator, verdicts: list[float]) -> None:
    """Each operator compares as it reads, also at its value."""
    rules = RuleSet([rule(operator, 1.0)], FEATURES)
    assert rules.verdicts(rows(0.0, 1.0, 2.0)).tolist() == verdicts


def test_several_rules_vote() -> None:
    """The verdict is the share of firing rules that name class 1; silence is class 0 here."""
    rules = RuleSet([rule("<", 0.0), rule("<", 1.0), rule("<", 2.0, 0)], FEATURES)
    found = rules.verdicts(rows(-1.0, 0.5, 1.5, 5.0))
    np.testing.assert_allclose(found, [2 / 3, 1 / 2, 0.0, 0.0], rtol=1e-6)


def test_silence_where_rules_name_class_zero() -> None:
    """Where every rule names class 0, a row on which none fires is class 1."""
    rules = RuleSet([rule(">", 0.0, 0)], FEATURES)
    assert rules.verdicts(rows(1.0, -1.0)).tolist() == [0.0, 1.0]


def test_conflict_needs_rule_and_doubt() -> None:
    """A conflict is a flagged row below the threshold: not at it, and not an unflagged one."""
    rules = RuleSet([FRAUD], FEATURES)
    found = rules.conflicts(rows(-2, -2, -2, 0), chances(0.1, 0.25, 0.9, 0.1), 0.25)
    assert found.tolist() == [True, False, False, False]


def test_conflict_with_a_rule_for_class_zero() -> None:
    """A rule for class 0 conflicts where the model gives class 0 less than the threshold."""
    rules = RuleSet([rule("<", -1.5, 0)], FEATURES)
    assert rules.conflicts(rows(-2, -2), chances(0.9, 0.5), 0.3).tolist() == [True, False]


def test_row_counts_once() -> None:
    """A row that conflicts with two rules is one conflict."""
    rules = RuleSet([FRAUD, rule("<", 0.0)], FEATURES)
    assert int(rules.conflicts(rows(-2), chances(0.1), 0.3).sum()) == 1


def test_no_rules_no_conflicts() -> None:
    """Without rules nothing conflicts."""
    rules = RuleSet([], FEATURES)
    assert len(rules) == 0
    assert not rules.conflicts(rows(-2, 0), chances(0.0, 1.0), 0.3).any()


def test_columns_are_found_by_name() -> None:
    """A rule follows its feature, wherever its column stands."""
    swapped = RuleSet([FRAUD], ["V14", "V1"])
    assert swapped.verdicts(np.array([[-2.0, 0.0], [0.0, -2.0]], np.float32)).tolist() == [1, 0]


def test_unknown_feature_is_refused() -> None:
    """A rule on a feature that the model lacks is refused by name."""
    with pytest.raises(ValueError, match="V14"):
        RuleSet([FRAUD], ["V1"])


def test_unknown_operator_is_refused() -> None:
    """What is no comparison is no rule."""
    with pytest.raises(ValidationError, match="operator"):
        Rule.model_validate({"feature": "V14", "operator": "=", "value": 1})


def test_rule_reads_as_a_sentence() -> None:
    """A rule prints as what it says."""
    assert str(FRAUD) == "V14 < -1.5 -> class 1"


def odd(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """A rule as a function: fires where the first feature is above the second."""
    return rows[:, 0] > rows[:, 1]


def test_a_function_is_a_rule() -> None:
    """A callable by its import name fires where it says; a rule is one or the other."""
    rules = RuleSet([Rule(function="test_rules:odd", target=0)], ["a", "b"])
    rows = np.asarray([[2, 1], [1, 2]], np.float32)
    assert rules.fires(rows).tolist() == [[True], [False]]
    for wrong in ({}, {"feature": "a", "function": "test_rules:odd"}):
        with pytest.raises(ValueError, match="either a feature or a function"):
            Rule.model_validate(wrong)
    with pytest.raises(ValueError, match="cannot import"):
        RuleSet([Rule(function="test_rules:missing")], ["a"])


def test_weights_count() -> None:
    """Of two rules that disagree the heavier one prevails."""
    rules = RuleSet(
        [Rule(feature="a", operator=">", value=0, target=1, weight=3),
         Rule(feature="b", operator=">", value=0, target=0)], ["a", "b"],
    )  # fmt: skip
    assert rules.verdicts(np.asarray([[1, 1]], np.float32)).tolist() == [0.75]


def test_a_rule_decays() -> None:
    """A rule that labels no longer bear out loses its weight, and gets it back with them."""
    rng = np.random.default_rng(0)
    rules = RuleSet([Rule(feature="a", operator=">", value=0)], ["a"])

    def rows_of(n: int, right: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = rng.normal(size=(n, 1)).astype(np.float32)
        true = (rows[:, 0] > 0) == (rng.random(n) < right)
        return rows, true.astype(np.float32)

    record = RuleRecord(rules, *rows_of(2000, 0.9))
    for right, low, high in ((0.9, 0.9, 1.0), (0.5, 0.0, 0.1), (0.9, 0.9, 1.0)):
        for _ in range(60):
            record.update(*rows_of(100, right))
        assert low <= rules.trust[0] <= high
        assert record.status()[0]["precision"] == pytest.approx(right, abs=0.06)
    assert record.status()[0]["coverage"] == pytest.approx(0.5, abs=0.05)
