"""Suggested sensitive features and rules: what is found in labelled data, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from elec2 import ELEC2, needs_elec2
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.packaging.suggest import Suggestion, suggest
from bento_selfheal.rules import RuleSet
from bento_selfheal.simulation.streams import article_rows, read_table


def suggest_article(seed: int, split: int = 42, most: int = 5) -> Suggestion:
    data = article_rows(5000, 0.0, np.random.default_rng(seed))
    return suggest(data.rows, data.labels, data.features, seed=split, most=most)


def noise(seed: int, n: int, features: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, features))


@pytest.mark.parametrize("seed", range(20))
def test_finds_what_the_article_gives_by_hand(seed: int) -> None:
    """V14 alone is sensitive, and the best rule is the article's."""
    for split in (42, seed):
        found = suggest_article(seed, split)
        best = found.rules[0].rule
        assert found.sensitive == ["V14"]
        assert next(iter(found.strength)) == "V14"
        assert (best.feature, best.operator, best.target) == ("V14", "<", 1)
        assert -1.8 <= best.value <= -1.2
        assert best.value == round(best.value, 2)


def test_measures_hold_on_fresh_rows() -> None:
    """What is said of a rule is what it does on rows that nobody has seen."""
    found = suggest_article(42).rules[0]
    fresh = article_rows(50_000, 0.0, np.random.default_rng(7))
    fires = RuleSet([found.rule], fresh.features).verdicts(fresh.rows) > 0.5
    fraud = fresh.labels == 1
    assert found.precision == pytest.approx(fraud[fires].mean(), abs=0.06)
    assert found.recall == pytest.approx(fires[fraud].mean(), abs=0.06)
    assert found.coverage == pytest.approx(fires.mean(), abs=0.03)
    assert found.lift == pytest.approx(found.precision / 0.15, rel=0.1)
    mean = 2 * found.precision * found.recall / (found.precision + found.recall)
    assert found.f1 == pytest.approx(mean)


def test_same_seed_same_suggestion() -> None:
    """The seed decides the held-out rows, and nothing else is drawn."""
    assert suggest_article(3, split=5) == suggest_article(3, split=5)
    assert suggest_article(3, split=5).rules != suggest_article(3, split=6).rules


@pytest.mark.parametrize("seed", range(10))
def test_noise_suggests_nothing(seed: int) -> None:
    """Labels that have nothing to do with the features: no sensitive feature and no rule."""
    labels = np.random.default_rng(seed + 100).integers(0, 3, 600)
    found = suggest(noise(seed, 600, 20), labels, [f"F{i}" for i in range(20)], classes=3)
    assert (found.sensitive, found.rules) == ([], [])
    assert len(found.strength) == 20


def test_few_rows_suggest_nothing() -> None:
    """Three rows prove nothing, however well they are separated."""
    found = suggest([[0.0], [1.0], [2.0]], [0, 0, 1], ["A"])
    assert (found.sensitive, found.rules) == ([], [])


def test_several_features_are_listed_strongest_first() -> None:
    """Two features that tell the class and one that hardly does."""
    labels = np.random.default_rng(1).integers(0, 2, 4000)
    rows = noise(2, 4000, 3) + labels[:, None] * np.array([1.5, 0.1, 3.0])
    found = suggest(rows, labels, ["A", "B", "C"])
    assert found.sensitive == ["C", "A"]
    assert list(found.strength) == ["C", "A", "B"]
    assert [r.f1 for r in found.rules] == sorted((r.f1 for r in found.rules), reverse=True)
    assert {(r.rule.feature, r.rule.operator, r.rule.target) for r in found.rules} == {
        ("A", "<", 0), ("A", ">", 1), ("C", "<", 0), ("C", ">", 1)
    }  # fmt: skip


def test_most_bounds_the_rules() -> None:
    """No more rules than asked for, and the best of them."""
    labels = np.arange(3000) % 2
    rows = noise(3, 3000, 4) + 3 * labels[:, None]
    all_rules = suggest(rows, labels, list("ABCD"), most=100).rules
    assert len(all_rules) == 8
    assert suggest(rows, labels, list("ABCD"), most=2).rules == all_rules[:2]
    assert suggest(rows, labels, list("ABCD"), most=0).rules == []


def test_several_classes() -> None:
    """Each feature that tells one of three classes from the rest is found."""
    labels = np.random.default_rng(4).integers(0, 3, 3000)
    rows = noise(5, 3000, 4)
    rows[:, 0] -= 4 * (labels == 0)
    rows[:, 1] += 4 * (labels == 1)
    rows[:, 2] += 4 * (labels == 2)
    found = suggest(rows, labels, ["zero", "one", "two", "none"], classes=3)
    assert set(found.sensitive) == {"zero", "one", "two"}
    best = {r.rule.target: r.rule for r in found.rules}
    assert (best[0].feature, best[0].operator) == ("zero", "<")
    assert (best[1].feature, best[1].operator) == ("one", ">")
    assert best[0].value == pytest.approx(-2, abs=0.6)


def test_a_class_without_rows_is_no_matter() -> None:
    """The third class has not come up yet."""
    data = article_rows(2000, 0.0, np.random.default_rng(0))
    found = suggest(data.rows, data.labels, data.features, classes=3)
    assert found.sensitive == ["V14"]
    assert [r.rule.target for r in found.rules] == [1]


def test_constant_features_say_nothing() -> None:
    """A constant feature has strength 0 and is not listed, even where it is the only one."""
    labels = np.arange(1000) % 2
    rows = np.column_stack([np.full(1000, 7.0), labels * 2.0])
    found = suggest(rows, labels, ["still", "flag"])
    assert found.sensitive == ["flag"]
    assert found.strength == {"flag": 1.0, "still": 0.0}
    assert {str(r.rule) for r in found.rules} == {"flag < 1 -> class 0", "flag > 1 -> class 1"}
    assert suggest(rows[:, :1], labels, ["still"]) == Suggestion([], {"still": 0.0}, [])


def test_the_usual_class_needs_no_rule() -> None:
    """That most rows are normal is nothing that a rule could add."""
    assert all(r.rule.target == 1 for r in suggest_article(8, most=100).rules)


def test_scale_and_shift_of_a_feature_do_not_matter() -> None:
    """The threshold is in the feature's own unit, and as readable there."""
    data = article_rows(5000, 0.0, np.random.default_rng(42))
    found = suggest(data.rows * 1000.0 + 50_000.0, data.labels, data.features)
    assert found.sensitive == ["V14"]
    assert 48_200 <= found.rules[0].rule.value <= 48_800
    assert found.rules[0].rule.value % 100 == 0


@needs_elec2
def test_electricity() -> None:
    """Several strong features of a real stream; its three constant ones are not among them."""
    table, _ = read_table(ELEC2, "class").split(1 / 3)
    found = suggest(table.rows, table.labels, table.features)
    assert found.sensitive == ["nswprice", "nswdemand"]
    assert found.strength["vicprice"] < 0.01
    best = found.rules[0]
    assert best.rule.feature == "nswprice"
    assert {r.rule.target for r in found.rules} == {0, 1}
    assert all(r.precision > 0.6 and r.lift > 1.4 for r in found.rules)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [[1.0], [2.0]]}, r"rows: shape \(2, 1\) does not match 2 features"),
        ({"rows": [[1.0, 2.0], [3.0, float("nan")]]}, "rows: row 1, B is nan"),
        ({"rows": [[1.0, 2.0], [1e300, 0.0]]}, "rows: row 1, A is inf"),
        ({"rows": [["x", 2.0], [3.0, 4.0]]}, "rows: not all are numbers.*'x'"),
        ({"labels": [0]}, r"labels: shape \(1,\) does not match 2 rows"),
        ({"labels": [0, 2]}, "labels: row 1 is 2, not one of 0 to 1"),
        ({"labels": [-1, 1]}, "labels: row 0 is -1"),
        ({"labels": [0.5, 1]}, "labels: row 0 is 0.5"),
        ({"labels": ["no", "yes"]}, "labels: .*'no'.* is not a class index"),
        ({"labels": [1, 1]}, "labels: all are 1; two classes are needed"),
        ({"features": ["A", "A"]}, r"features: names occur more than once in \['A', 'A'\]"),
        ({"features": []}, "features: there are none"),
        ({"classes": 1}, "classes: 1 is below 2"),
        ({"seed": -1}, "seed: -1 is below 0"),
        ({"most": -3}, "most: -3 is below 0"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    """The message names the argument and its value."""
    given: dict[str, Any] = {
        "rows": [[1.0, 2.0], [3.0, 4.0]], "labels": [0, 1], "features": ["A", "B"]
    }  # fmt: skip
    with pytest.raises(SettingsError, match=message):
        suggest(**given | change)
