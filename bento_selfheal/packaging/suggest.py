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

Of a category, the rows that choose are halved: one half says how often each category is of the
class, and the other how well that ranks the class. A date is looked at by its weekday and its hour.
Whether a value is missing is looked at like a value. A feature is as strong as the strongest.

Rules: for each sensitive feature, class and side, the threshold with the highest F-measure at
`BETA`, among those whose precision clears `RIGHT`, and `LIFT` times the class's base rate. `BETA`
above 1 puts recall before precision: a rule points at rows to look at, and one that stays silent
helps nobody. The maximum is flat, so the roundest number near the middle of the thresholds within
`FLAT` of it is taken. Of categories, those that each clear the base rate are named, the surest
first, as many as give the highest F-measure. A rule whose precision on held-out rows does not clear
the base rate there is dropped. "Clears" means: the lower end of the confidence interval, at
`CONFIDENCE`, is above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column
from bento_selfheal.packaging.suggestion.choosing import lower_bound
from bento_selfheal.packaging.suggestion.views import left_out, views_of
from bento_selfheal.packaging.training_data import check_rows, checked_labels
from bento_selfheal.rules import Rule, RuleSet

HELD_OUT = 1 / 3
"""Share of the rows that only measure."""
FALSE_ALARM = 0.001
"""Chance that features of pure noise, all together, have one listed."""
SHARE = 0.3
"""A sensitive feature's strength, as a share of the strongest's, at least."""


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
        left_out: By feature what was not looked at, and why.
    """

    sensitive: list[str]
    strength: dict[str, float]
    rules: list[SuggestedRule]
    left_out: dict[str, str] = field(default_factory=dict)


def suggest(
    rows: Any,
    labels: Any,
    features: Sequence[str],
    *,
    columns: Sequence[Column] = (),
    classes: int = 2,
    seed: int = 42,
    most: int = 5,
) -> Suggestion:
    """Find the sensitive features and candidate rules.

    Args:
        rows: Training data, ``(n, features)``, finite numbers, or codes where there are columns; an
            array, a tensor, or a table of pandas, polars or Arrow, whose columns are taken by name.
        labels: Class of each row, ``(n,)``, indices 0 to ``classes - 1``; two occur at least.
        features: Names of the columns.
        columns: Their types, in the same order, where not all are numbers without gaps.
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
    known = list(columns) or [Column(name=name) for name in names]
    x = _checked_rows(rows, names, columns)
    y = _checked_labels(labels, len(x), classes)
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(len(x) * HELD_OUT)
    held, chosen = order[:cut], order[cut:]
    views = {c.name: views_of(c, x[chosen, i], y[chosen], classes) for i, c in enumerate(known)}
    strength = {n: max((v.strength for v in found), default=0.0) for n, found in views.items()}
    strength = dict(sorted(strength.items(), key=lambda item: -item[1]))
    tried = sum(map(len, views.values())) or 1
    level = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * tried * classes))
    least = SHARE * max(strength.values())
    clear = {n for n, found in views.items() if any(v.surprise > level for v in found)}
    sensitive = [n for n, s in strength.items() if s >= least and n in clear]
    measured = [
        _measure(rule, known[place], x[held, place], y[held])
        for place in map(names.index, sensitive)
        for view in views[names[place]]
        for rule in view.rules
    ]
    rules = sorted((m for m in measured if m is not None), key=lambda found: -found.f1)
    return Suggestion(sensitive, strength, rules[:most], left_out(known, x))


def _measure(
    rule: Rule, column: Column, codes: NDArray[np.float32], y: NDArray[np.int64]
) -> SuggestedRule | None:
    """The rule on held-out rows; None where its precision does not clear the base rate."""
    fires = RuleSet([rule], [column.name], [column]).fires(codes[:, None])[:, 0]
    mine = y == rule.target
    hits, flagged, size = int((fires & mine).sum()), int(fires.sum()), int(mine.sum())
    if not hits or lower_bound(hits, flagged) <= size / len(y):
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


def _check_settings(names: list[str], classes: int, seed: int, most: int) -> None:
    if not names:
        raise SettingsError("features: there are none")
    for name, value, least in (("classes", classes, 2), ("seed", seed, 0), ("most", most, 0)):
        if value < least:
            raise SettingsError(f"{name}: {value} is below {least}")


def _checked_rows(rows: Any, names: list[str], columns: Sequence[Column]) -> NDArray[np.float32]:
    try:
        x = check_rows(rows, names, columns)
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
