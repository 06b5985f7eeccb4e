"""Sensitive features and candidate rules, found in labelled training data.

What the article gives by hand, feature V14 and "V14 < -1.5 → fraud", is looked for here, with
numpy alone. A share of the rows, `HELD_OUT`, is put aside at random; the others choose features
and thresholds, and the held-out ones say how good each rule is.

Sensitive: a feature's strength is ``max over classes of |2·AUC - 1|``, AUC being the chance that
a row of the class ranks above a row of the others; ties count half. It is 0 for a constant
feature and 1 for one that separates a class. A feature is listed when its strength is above what
shuffled labels reach with a chance of `FALSE_ALARM` over all features together, and at least
`SHARE` of the strongest's. Rows are taken as independent: in a slowly moving series that noise
level is too low, and `SHARE` is the bound that counts. Ranks see only what goes one way: a
feature whose low and high values both mean the class is missed.

Rules: for each sensitive feature, class and side, the threshold with the highest F-measure at
`BETA`, among those whose precision clears `RIGHT`, and `LIFT` times the class's base rate. `BETA`
above 1 puts recall before precision: a rule points at rows to look at, and one that stays silent
helps nobody. The maximum is flat, so the roundest number near the middle of the thresholds within
`FLAT` of it is taken. A rule whose precision on held-out rows does not clear the base rate there is
dropped. "Clears" means: the lower end of the confidence interval, at `CONFIDENCE`, is above.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.packaging.class_counts import ClassCounts, Floats
from bento_selfheal.packaging.training_data import check_rows, checked_labels
from bento_selfheal.rules import Operator, Rule

HELD_OUT = 1 / 3
"""Share of the rows that only measure."""
FALSE_ALARM = 0.001
"""Chance that features of pure noise, all together, have one listed."""
SHARE = 0.3
"""A sensitive feature's strength, as a share of the strongest's, at least."""
BETA = 1.5
"""Weight of recall against precision when a threshold is chosen."""
FLAT = 0.01
"""Share of the highest F-measure that a rounder threshold may cost."""
LIFT = 1.5
"""Precision over base rate, at least; so a class with two thirds of the rows gets no rule."""
RIGHT = 0.5
"""Precision, at least: a rule is right more often than wrong."""
CONFIDENCE = 0.99
"""One-sided confidence of a bound on a precision."""


@dataclass(frozen=True)
class SuggestedRule:
    """A rule and how good it is on held-out rows.

    Attributes:
        rule: The rule.
        precision: Share of the rows it flags that are of its class, 0 to 1.
        coverage: Share of all rows that it flags, 0 to 1.
        recall: Share of its class's rows that it flags, 0 to 1.
        lift: Precision over the class's share of all rows; 1 is no better than chance.
        f1: Harmonic mean of precision and recall, 0 to 1.
    """

    rule: Rule
    precision: float
    coverage: float
    recall: float
    lift: float
    f1: float


@dataclass(frozen=True)
class Suggestion:
    """What the data says; empty lists where it says nothing.

    Attributes:
        sensitive: Names of the sensitive features, strongest first.
        strength: Strength of every feature, 0 to 1, strongest first.
        rules: Candidate rules, highest held-out F1 first.
    """

    sensitive: list[str]
    strength: dict[str, float]
    rules: list[SuggestedRule]


def suggest(
    rows: Any,
    labels: Any,
    features: Sequence[str],
    *,
    classes: int = 2,
    seed: int = 42,
    most: int = 5,
) -> Suggestion:
    """Find the sensitive features and candidate rules.

    Args:
        rows: Training data, ``(n, features)``, finite numbers; an array, a tensor, or a table of
            pandas, polars or Arrow, whose columns are taken by name.
        labels: Class of each row, ``(n,)``, indices 0 to ``classes - 1``; two occur at least.
        features: Names of the columns.
        classes: Number of classes. No rule is made for a class that `Rule` cannot name.
        seed: Seed of the held-out split, 0 or more.
        most: Most rules to return, 0 or more.

    Raises:
        SettingsError: An argument does not fit; the message names it and its value.

    >>> from bento_selfheal.simulation.streams import article_rows
    >>> data = article_rows(5000, 0.0, np.random.default_rng(42))
    >>> found = suggest(data.rows, data.labels, data.features)
    >>> found.sensitive, str(found.rules[0].rule), round(found.rules[0].f1, 2)
    (['V14'], 'V14 < -1.5 -> class 1', 0.76)
    """
    names = list(features)
    _check_settings(names, classes, seed, most)
    x = _checked_rows(rows, names)
    y = _checked_labels(labels, len(x), classes)
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(len(x) * HELD_OUT)
    held, chosen = order[:cut], order[cut:]
    counts = {n: ClassCounts.of(x[chosen, i], y[chosen], classes) for i, n in enumerate(names)}
    strength = {name: each.strength() for name, each in counts.items()}
    strength = dict(sorted(strength.items(), key=lambda item: -item[1]))
    level = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * len(names) * classes))
    least = SHARE * max(strength.values())
    sensitive = [n for n, s in strength.items() if s >= least and counts[n].surprise() > level]
    measured = [
        _measure(rule, x[held, names.index(name)], y[held])
        for name in sensitive
        for rule in _rules(name, counts[name])
    ]
    rules = sorted((m for m in measured if m is not None), key=lambda found: -found.f1)
    return Suggestion(sensitive, strength, rules[:most])


def _rules(feature: str, counts: ClassCounts) -> list[Rule]:
    """The best rule of each class and side, where one clears the margin."""
    below = np.cumsum(counts.counts, axis=0)[:-1]
    sides: list[tuple[Operator, Floats]] = [
        ("<", below),
        (">", counts.counts.sum(axis=0) - below),
    ]
    total = counts.counts.sum()
    out = []
    for target in range(counts.counts.shape[1]):
        size = counts.counts[:, target].sum()
        for operator, flagged in sides:
            value = _threshold(counts.values, flagged[:, target], flagged.sum(axis=1), size, total)
            if value is not None:
                out.append(_rule(feature, operator, value, target))
    return out


def _threshold(
    values: Floats, hits: Floats, flagged: Floats, size: float, total: float
) -> float | None:
    """The threshold of one side, in the feature's unit; None where none clears the margin.

    Args:
        values: Distinct values, rising, ``(u,)``; cut i lies between values i and i + 1.
        hits: Rows of the class that a rule at each cut flags, ``(u - 1,)``.
        flagged: Rows of any class that it flags, ``(u - 1,)``.
        size: Rows of the class.
        total: All rows.
    """
    f = (1 + BETA**2) * hits / (flagged + BETA**2 * max(size, 1))
    f[_lower(hits, flagged) < max(RIGHT, LIFT * size / total)] = 0
    if not len(f) or f.max() == 0:
        return None
    near = f >= (1 - FLAT) * f.max()
    top = int(f.argmax())
    breaks = np.flatnonzero(~near)
    at = int(np.searchsorted(breaks, top))
    first = int(breaks[at - 1]) + 1 if at > 0 else 0
    last = int(breaks[at]) - 1 if at < len(breaks) else len(f) - 1
    return _round(float(values[first]), float(values[last + 1]))


def _round(low: float, high: float) -> float:
    """The number of fewest decimals near the middle of low and high, and between them.

    >>> _round(-1.71, -1.34), _round(3, 4), _round(1200, 1900)
    (-1.5, 3.5, 1600.0)
    """
    middle = low / 2 + high / 2
    start = -math.ceil(math.log10(high - low))
    for decimals in range(start, start + 4):
        value = round(middle, decimals)
        if low < value < high:
            return value + 0.0  # never "-0"
    return middle


def _lower(hits: Any, flagged: Any) -> Any:
    """Wilson's lower bound, at `CONFIDENCE`, of the share hits / flagged."""
    z2 = NormalDist().inv_cdf(CONFIDENCE) ** 2
    n = np.maximum(flagged, 1)
    p = hits / n
    return (p + z2 / (2 * n) - np.sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n)) / (1 + z2 / n)


def _measure(rule: Rule, column: NDArray[np.float32], y: NDArray[np.int64]) -> SuggestedRule | None:
    """The rule on held-out rows; None where its precision does not clear the base rate."""
    fires = column < rule.value if rule.operator == "<" else column > rule.value
    mine = y == rule.target
    hits, flagged, size = int((fires & mine).sum()), int(fires.sum()), int(mine.sum())
    if not hits or _lower(hits, flagged) <= size / len(y):
        return None
    precision, recall = hits / flagged, hits / size
    return SuggestedRule(
        rule=rule,
        precision=precision,
        coverage=flagged / len(y),
        recall=recall,
        lift=precision * len(y) / size,
        f1=2 * hits / (flagged + size),
    )


def _rule(feature: str, operator: Operator, value: float, target: int) -> Rule:
    given = {"feature": feature, "operator": operator, "value": value, "target": target}
    return Rule.model_validate(given)


def _check_settings(names: list[str], classes: int, seed: int, most: int) -> None:
    if not names:
        raise SettingsError("features: there are none")
    for name, value, least in (("classes", classes, 2), ("seed", seed, 0), ("most", most, 0)):
        if value < least:
            raise SettingsError(f"{name}: {value} is below {least}")


def _checked_rows(rows: Any, names: list[str]) -> NDArray[np.float32]:
    try:
        x = check_rows(rows, names)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if not len(x):
        raise SettingsError("rows: there are none")
    return x


def _checked_labels(labels: Any, n: int, classes: int) -> NDArray[np.int64]:
    try:
        given = checked_labels(labels)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if given.shape != (n,):
        raise SettingsError(f"labels: shape {given.shape} does not match {n} rows")
    if given.dtype.kind not in "biuf":
        raise SettingsError(f"labels: {given[0]!r} is not a class index")
    wrong = ~np.isin(given, np.arange(classes))
    if wrong.any():
        row = int(wrong.argmax())
        raise SettingsError(f"labels: row {row} is {given[row]!s}, not one of 0 to {classes - 1}")
    if (given == given[0]).all():
        raise SettingsError(f"labels: all are {given[0]}; two classes are needed")
    return given.astype(np.int64)
