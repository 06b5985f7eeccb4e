"""Symbolic rules: what a domain expert knows, compared with what the model predicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.core.importing import import_function
from bento_selfheal.core.records import Label
from bento_selfheal.errors import SettingsError

Operator = Literal["<", "<=", ">", ">="]
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


class Rule(BaseModel):
    """One rule, "feature operator value → class", e.g. ``V14 < -1.5 → fraud``; or a function."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    feature: str = ""
    """Name of the feature it looks at."""
    operator: Operator = "<"
    """How the feature is compared with the value."""
    value: float = 0.0
    """The value compared with, in the feature's own unit."""
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
        what = self.function or f"{self.feature} {self.operator} {self.value:g}"
        return f"{what} -> class {self.target}"


class RuleSet:
    """Rules bound to the order of a model's features.

    Args:
        rules: Any number of rules; without rules nothing ever conflicts.
        features: Names in the order of the columns.

    Attributes:
        trust: Share of each rule's weight that labels have left it, ``(rules,)``, 1 at first.

    Raises:
        ValueError: A rule names a feature that the model does not have, or a function that cannot
            be imported.
    """

    def __init__(self, rules: Sequence[Rule], features: Sequence[str]) -> None:
        names = [rule.feature for rule in rules if rule.feature]
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(f"rules name unknown features {missing}; known: {list(features)}")
        self.rules = list(rules)
        self._columns = [list(features).index(r.feature) if r.feature else -1 for r in rules]
        self._functions = [_function(rule) for rule in rules]
        self.trust: NDArray[np.float64] = np.ones(len(self.rules))

    def __len__(self) -> int:
        return len(self.rules)

    def fires(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rule fires on which row, ``(n, rules)``."""
        out = np.zeros((len(rows), len(self.rules)), dtype=bool)
        for i, (rule, column, function) in enumerate(
            zip(self.rules, self._columns, self._functions, strict=True)
        ):
            out[:, i] = (
                function(rows) if function else _COMPARE[rule.operator](rows[:, column], rule.value)
            )
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


def _function(rule: Rule) -> Any:
    """The function of a rule; None for a rule on a feature."""
    if not rule.function:
        return None
    try:
        return import_function(rule.function)
    except ValueError as error:
        raise ValueError(f"function: {error}") from error


def parse_rule(text: str, classes: Sequence[Label]) -> Rule:
    """A rule from text such as ``V14 < -1.5 -> fraud``; the class is the second one by default.

    Raises:
        SettingsError: It is not of that form, or names an unknown class.
    """
    found = re.fullmatch(r"\s*(.+?)\s*(<=|>=|<|>)\s*(\S+?)\s*(?:->\s*(.+?))?\s*", text)
    try:
        feature, operator, value, named = found.groups() if found else ("", "", "", None)
        bound = float(value)
    except ValueError:
        raise SettingsError(f"--rule: {text!r} is not 'feature < value -> class'") from None
    index = {str(label): i for i, label in enumerate(classes)}
    if named is not None and named not in index:
        raise SettingsError(f"--rule: {named!r} is not a class; the classes are {', '.join(index)}")
    target = 1 if named is None else index[named]
    return Rule.model_validate(
        {"feature": feature, "operator": operator, "value": bound, "target": target}
    )
