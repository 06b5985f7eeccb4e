"""Symbolic rules: what a domain expert knows, checked against what the model says."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from .decision import decided

Operator = Literal["<", "<=", ">", ">="]
_COMPARE = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
MEMORY = 1000.0
FEWEST = 20.0


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
            raise ValueError("a rule names a feature, or a function, and not both")
        return self

    def __str__(self) -> str:
        what = self.function or f"{self.feature} {self.operator} {self.value:g}"
        return f"{what} -> class {self.target}"


class RuleSet:
    """Rules bound to the order of a model's features.

    Args:
        rules: Any number of rules; none is allowed, and then nothing ever conflicts.
        features: Names in the order of the columns.

    Attributes:
        trust: Share of each rule's weight that labels have left it, ``(rules,)``, 1 at first.

    Raises:
        ValueError: A rule names a feature that the model does not have, or no function.
    """

    def __init__(self, rules: Sequence[Rule], features: Sequence[str]) -> None:
        names = [rule.feature for rule in rules if rule.feature]
        missing = [name for name in names if name not in features]
        if missing:
            raise ValueError(f"rules name unknown features {missing}; known: {list(features)}")
        self.rules = list(rules)
        self._columns = [list(features).index(r.feature) if r.feature else -1 for r in rules]
        self._functions = [_import(r.function) if r.function else None for r in rules]
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
        """The rules' soft verdict on class 1 for each row, ``(n,)``.

        With the article's single rule this is its 0/1 verdict. Several rules vote with their
        weights and what labels have left of them: the share of the firing ones that name class
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
        """Rows that a rule flags and to whose class the model gives less than ``threshold``.

        Shape ``(n,)``; article.md, section 2.
        """
        hit = np.zeros(len(rows), dtype=bool)
        for i, fires in enumerate(self.fires(rows).T):
            hit |= fires & (_given(probabilities, self.rules[i].target) < threshold)
        return hit

    def agreement(
        self, rows: NDArray[np.float32], probabilities: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Where rules and model agree, ``(n,)``: the model decides for a class exactly where a
        rule for that class fires."""
        fires, said = self.fires(rows), decided(probabilities)
        agree = np.ones(len(rows), dtype=bool)
        for target in {rule.target for rule in self.rules}:
            own = [i for i, rule in enumerate(self.rules) if rule.target == target]
            agree &= fires[:, own].any(axis=1) == (said == target)
        return agree


class RuleRecord:
    """Precision and coverage of each rule on labels, fading by half every 1,000 labels.

    Args:
        rules: The rules; their trust follows the record.
        rows: The reference set, on which each rule showed what it is worth, ``(m, features)``.
        labels: Its labels, ``(m,)``.
    """

    def __init__(
        self, rules: RuleSet, rows: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> None:
        self._rules = rules
        self._targets = np.asarray([rule.target for rule in rules.rules])
        # For each rule: rows, rows it fired on, hits among those, rows of its class.
        self.counts: NDArray[np.float64] = self._count(rows, labels)
        self._worth = self._gain(self.counts)
        self.counts = np.zeros_like(self.counts)

    def update(self, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Take newly labelled rows; a rule that is worth less than it was loses weight."""
        if not len(self._rules):
            return
        self.counts = self.counts * 0.5 ** (len(rows) / MEMORY) + self._count(rows, labels)
        left = self._gain(self.counts) / np.maximum(self._worth, 1e-9)
        judged = self.counts[1] >= FEWEST
        self._rules.trust = np.where(judged, np.clip(left, 0.0, 1.0), self._rules.trust)

    def status(self) -> list[dict[str, Any]]:
        """By rule: precision and coverage on recent labels, and what is left of its weight."""
        rows, fired, hits, _ = self.counts
        return [
            {
                "rule": str(rule),
                "precision": float(hits[i] / fired[i]) if fired[i] else None,
                "coverage": float(fired[i] / rows[i]) if rows[i] else None,
                "trust": float(self._rules.trust[i]),
            }
            for i, rule in enumerate(self._rules.rules)
        ]

    def _count(self, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
        fires = self._rules.fires(rows)
        own = np.asarray(labels)[:, None] == self._targets
        return np.stack(
            [np.full(fires.shape[1], len(rows)), fires.sum(0), (fires & own).sum(0), own.sum(0)]
        ).astype(np.float64)

    @staticmethod
    def _gain(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Precision above what naming the class at random would have."""
        rows, fired, hits, own = counts
        return np.asarray(hits / np.maximum(fired, 1e-9) - own / np.maximum(rows, 1e-9))


def _given(probabilities: NDArray[np.float32], target: int) -> NDArray[np.float32]:
    if probabilities.ndim == 2:
        return probabilities[:, target]
    return probabilities if target == 1 else 1 - probabilities


def _import(path: str) -> Any:
    module, colon, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"function: cannot import {path!r}: {error}") from error
