"""Symbolic rules: what a domain expert knows, checked against what the model says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Operator = Literal["<", "<=", ">", ">="]
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


class Rule(BaseModel):
    """One rule, "feature operator value → class", e.g. ``V14 < -1.5 → fraud``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    feature: str
    """Name of the feature it looks at."""
    operator: Operator
    """How the feature is compared with the value."""
    value: float
    """The value compared with, in the feature's own unit."""
    target: Literal[0, 1] = 1
    """Index of the class that the rule names."""

    def __str__(self) -> str:
        return f"{self.feature} {self.operator} {self.value:g} -> class {self.target}"


class RuleSet:
    """Rules bound to the order of a model's features.

    Args:
        rules: Any number of rules; none is allowed, and then nothing ever conflicts.
        features: Names in the order of the columns.

    Raises:
        ValueError: A rule names a feature that the model does not have.
    """

    def __init__(self, rules: Sequence[Rule], features: Sequence[str]) -> None:
        missing = [rule.feature for rule in rules if rule.feature not in features]
        if missing:
            raise ValueError(f"rules name unknown features {missing}; known: {list(features)}")
        self._rules = [(rule, list(features).index(rule.feature)) for rule in rules]

    def __len__(self) -> int:
        return len(self._rules)

    def verdicts(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rules' soft verdict on class 1 for each row, ``(n,)``.

        With the article's single rule this is its 0/1 verdict. Several rules vote: the
        share of firing rules that name class 1; a row on which none fires gets 0 when some
        rule names class 1, else 1.
        """
        votes = np.zeros((2, len(rows)), dtype=np.float32)
        for rule, column in self._rules:
            votes[rule.target] += _COMPARE[rule.operator](rows[:, column], rule.value)
        fired = votes.sum(axis=0)
        silent = 0.0 if any(rule.target == 1 for rule, _ in self._rules) else 1.0
        return np.where(fired > 0, votes[1] / np.maximum(fired, 1), silent).astype(np.float32)

    def conflicts(
        self, rows: NDArray[np.float32], probabilities: NDArray[np.float32], threshold: float
    ) -> NDArray[np.bool_]:
        """Rows that a rule flags and to whose class the model gives less than ``threshold``.

        Shape ``(n,)``; article.md, section 2.
        """
        hit = np.zeros(len(rows), dtype=bool)
        for rule, column in self._rules:
            fires = _COMPARE[rule.operator](rows[:, column], rule.value)
            given = probabilities if rule.target == 1 else 1 - probabilities
            hit |= fires & (given < threshold)
        return hit
