"""Symbolic rules: what a domain expert knows, compared with what the model predicts."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.importing import import_function
from bento_selfheal.core.records import Label
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.condition import (
    GAPS,
    LISTED,
    OPERATORS,
    Holds,
    Operator,
    Part,
    Value,
    condition,
)

FORM = "'feature < value -> class'"
QUOTED = r'"(?:[^"]|"")*"'
VALUES = rf"(?:{QUOTED})?(?:,\s*{QUOTED}|.)*?"
"""Of a rule in text; what a quoted value holds is no part of the rule's form."""


class Rule(BaseModel):
    """One rule, "feature operator value → class", e.g. ``V14 < -1.5 → fraud``; or a function.

    >>> str(Rule(feature="sky", operator="in", value=["fog", "rain"]))
    'sky in fog, rain -> class 1'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    feature: str = ""
    """Name of the feature it looks at."""
    part: Part = ""
    """Of a date, what is compared: ``weekday`` or ``hour``; all of it by default."""
    operator: Operator = "<"
    """How the feature is compared with the value. Where the feature is missing, only ``is missing``
    holds."""
    value: Value | tuple[Value, ...] = 0.0
    """The value compared with, as rows have it: a number in the feature's own unit, a category, a
    date such as ``2026-11-28``, true or false. Several for ``in`` and ``not in``, two for
    ``within``, which includes both; none for ``is missing`` and ``is not missing``."""
    function: str = ""
    """Instead of a feature: ``module:function``, which gets ``(n, features)`` and says where
    the rule fires, ``(n,)`` of bool."""
    target: int = Field(default=1, ge=0)
    """Index of the class that the rule names."""
    weight: float = Field(default=1.0, gt=0)
    """How much its vote counts among other rules."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.feature) == bool(self.function):
            raise ValueError("a rule needs either a feature or a function, not both")
        return self

    def __str__(self) -> str:
        return f"{self.condition} -> class {self.target}"

    @property
    def condition(self) -> str:
        """Where it fires, as text."""
        if self.function:
            return self.function
        what = f"{self.part} of {self.feature}" if self.part else self.feature
        if self.operator in GAPS:
            return f"{what} {self.operator}"
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return f"{what} {self.operator} {', '.join(map(_written, values))}"


class RuleSet:
    """Rules bound to the order of a model's features.

    Args:
        rules: Any number of rules; without rules nothing ever conflicts.
        features: Names in the order of the columns.
        columns: Their types, in the same order; none where all are numbers without gaps.

    Attributes:
        trust: Share of each rule's weight that labels have left it, ``(rules,)``, 1 at first.

    Raises:
        ValueError: A rule names a feature that the model does not have, compares it with what it
            cannot hold, or names a function that cannot be imported.
    """

    def __init__(
        self, rules: Sequence[Rule], features: Sequence[str], columns: Sequence[Column] = ()
    ) -> None:
        names = [rule.feature for rule in rules if rule.feature]
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(f"rules name unknown features {missing}; known: {list(features)}")
        self.rules = list(rules)
        self._columns = [list(features).index(r.feature) if r.feature else -1 for r in rules]
        known = list(columns) or [Column(name=name) for name in features]
        self._holds = [
            _holds(rule, known[place]) for rule, place in zip(rules, self._columns, strict=True)
        ]
        self.trust: NDArray[np.float64] = np.ones(len(self.rules))

    def __len__(self) -> int:
        return len(self.rules)

    def fires(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rule fires on which row, ``(n, rules)``."""
        out = np.zeros((len(rows), len(self.rules)), dtype=bool)
        for i, (column, holds) in enumerate(zip(self._columns, self._holds, strict=True)):
            out[:, i] = holds(rows if column < 0 else rows[:, column])
        return out

    def verdicts(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Soft verdict of the rules on class 1 for each row, ``(n,)``.

        With the article's single rule this is its 0/1 verdict. Several rules vote with their
        weights times their trust: the verdict is the share of the rules that fire and name class
        1. A row on which none fires gets 0 when some rule names class 1, else 1.
        """
        power = np.asarray([rule.weight for rule in self.rules]) * self.trust
        votes = self.fires(rows) * power
        ones = np.asarray([rule.target == 1 for rule in self.rules], dtype=bool)
        fired = votes.sum(axis=1)
        silent = 0.0 if ones.any() else 1.0
        share = votes[:, ones].sum(axis=1) / np.where(fired > 0, fired, 1)
        return np.where(fired > 0, share, silent).astype(np.float32)

    def conflicts(
        self, rows: NDArray[np.float32], probabilities: NDArray[np.float32], threshold: float
    ) -> NDArray[np.bool_]:
        """Rows that a rule flags and whose class the model gives less than ``threshold``.

        Shape ``(n,)``; article.md, section 2.
        """
        hit = np.zeros(len(rows), dtype=bool)
        for i, fires in enumerate(self.fires(rows).T):
            hit |= fires & (_given(probabilities, self.rules[i].target) < threshold)
        return hit

    def agreement(
        self, rows: NDArray[np.float32], probabilities: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Where rules and model agree, ``(n,)``.

        They agree on a row when the model decides for a class exactly where a rule for it fires.
        """
        fires, said = self.fires(rows), decide_classes(probabilities)
        agree = np.ones(len(rows), dtype=bool)
        for target in {rule.target for rule in self.rules}:
            own = [i for i, rule in enumerate(self.rules) if rule.target == target]
            agree &= fires[:, own].any(axis=1) == (said == target)
        return agree


def _given(probabilities: NDArray[np.float32], target: int) -> NDArray[np.float32]:
    if probabilities.ndim == 2:
        return probabilities[:, target]
    return probabilities if target == 1 else 1 - probabilities


def _holds(rule: Rule, column: Column) -> Holds:
    """Where a rule fires: for codes of its column, or for rows if it is a function."""
    if not rule.function:
        return condition(column, rule.operator, rule.value, rule.part)
    try:
        found: Holds = import_function(rule.function)
    except ValueError as error:
        raise ValueError(f"function: {error}") from error
    return found


def _written(value: Value) -> str:
    """A value as `parse_rule` reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    quoted = value.replace('"', '""')
    return f'"{quoted}"' if re.search(r'[,"]|->|^\s|\s$', value) else value


def parse_rule(text: str, classes: Sequence[Label], columns: Sequence[Column]) -> Rule:
    """A rule from text such as ``V14 < -1.5 -> fraud``; the class is the second one by default.

    Args:
        text: As `Rule.condition` writes it, and the class: ``sky in fog, rain -> late``,
            ``speed is missing``, ``weekday of day == Sunday``, ``day within 2026-01-01,
            2026-03-31``. A value with a comma or ``->`` stands in double quotes.
        classes: Classes of the labels.
        columns: The columns that a rule may name.

    Raises:
        SettingsError: It is not of that form, or names an unknown feature or class.
    """
    words = "|".join(re.escape(operator) for operator in sorted(OPERATORS, key=len, reverse=True))
    names = "|".join(re.escape(c.name) for c in sorted(columns, key=lambda c: -len(c.name)))
    found = re.fullmatch(
        rf"\s*(?:(weekday|hour) of )??({names})\s*({words})\s*({VALUES})\s*(?:->\s*(.+?))?\s*", text
    )
    if found is None:
        known = [column.name for column in columns]
        raise SettingsError(f"--rule: {text!r} is not {FORM}; the features are {known}")
    part, feature, operator, given, named = found.groups()
    index = {str(label): i for i, label in enumerate(classes)}
    column = next(column for column in columns if column.name == feature)
    if named is not None and named not in index:
        arrows = any("->" in level for level in column.levels)
        quotes = '; a category with -> in it needs "quotes"' if arrows else ""
        raise SettingsError(
            f"--rule: {named!r} is not a class; the classes are {', '.join(index)}{quotes}"
        )
    try:
        value = _values_in(given, operator, Kind.NUMBER if part == "hour" else column.kind)
    except ValueError as error:
        raise SettingsError(f"--rule: {text!r} is not {FORM}: {error}") from error
    target = 1 if named is None else index[named]
    return Rule.model_validate(
        {"feature": feature, "part": part or "", "operator": operator, "value": value,
         "target": target}
    )  # fmt: skip


def _values_in(text: str, operator: str, kind: Kind) -> Value | tuple[Value, ...]:
    """The values of a rule, read as its column's.

    Raises:
        ValueError: There is none, one too many, or one is no number where one is needed.
    """
    cells = next(csv.reader([text], skipinitialspace=True), [])
    if operator in GAPS:
        if cells:
            raise ValueError(f"{operator!r} takes no value, got {text!r}")
        return 0.0
    values = tuple(_read(cell.strip(), kind) for cell in cells)
    if operator in LISTED:
        return values
    if len(values) != 1:
        quotes = '; a text with a comma needs "quotes"' if kind is Kind.CATEGORY else ""
        raise ValueError(f"{operator!r} needs one value, got {text!r}{quotes}")
    return values[0]


def _read(text: str, kind: Kind) -> Value:
    if kind is Kind.BOOLEAN and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in (Kind.CATEGORY, Kind.DATETIME):
        return text
    return float(text)
