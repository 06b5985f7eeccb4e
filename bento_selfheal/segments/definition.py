"""Segments: groups of rows with a name, by the values of a model's columns."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.config.segments import MOST_SEGMENTS, Segment
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import ORDERED, Column, Kind
from bento_selfheal.rules import Rule, RuleSet, parse_rule

FORM = "'feature < value'"


@dataclass(frozen=True)
class Named:
    """One segment: the rows on which all its rules fire."""

    name: str
    rules: tuple[Rule, ...]

    @property
    def condition(self) -> str:
        """Which rows are in it, as text."""
        return " and ".join(rule.condition for rule in self.rules)


class Segments:
    """Segments bound to the columns of a model.

    Args:
        each: The segments.
        features: Names in the order of the columns.
        columns: Their types, in the same order; none where all are numbers without gaps.

    Raises:
        ValueError: A rule does not fit the columns.
    """

    def __init__(
        self, each: Sequence[Named], features: Sequence[str], columns: Sequence[Column]
    ) -> None:
        self.each = tuple(each)
        self.names = [one.name for one in each]
        self._features, self._columns = features, columns
        self._rules = RuleSet([rule for one in each for rule in one.rules], features, columns)
        self._starts = np.cumsum([0, *(len(one.rules) for one in each[:-1])]).astype(np.intp)

    def __len__(self) -> int:
        return len(self.each)

    def members(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which row is in which segment, ``(n, segments)``; a row may be in several, or in none."""
        if not self.each:
            return np.zeros((len(rows), 0), dtype=np.bool_)
        fires = self._rules.fires(rows)
        return np.logical_and.reduceat(fires, self._starts, axis=1)

    def only(self, names: Sequence[str]) -> Segments:
        """The segments of these names."""
        kept = [one for one in self.each if one.name in names]
        return Segments(kept, self._features, self._columns)


class LeftOutSegments:
    """Segments that are left to the packaged model.

    Args:
        segments: Which.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self.names = tuple(segments.names)

    @classmethod
    def read(
        cls, state: Tensor, features: Sequence[str], columns: Sequence[Column]
    ) -> LeftOutSegments:
        """Those that `state` was taken of.

        Raises:
            RuntimeError: It is damaged, or does not fit the columns.
        """
        try:
            told = json.loads(bytes(state.tolist()))
            each = [Named(n, tuple(map(Rule.model_validate, rules))) for n, rules in told]
            return cls(Segments(each, features, columns))
        except (ValueError, TypeError) as error:
            raise RuntimeError(f"its segments cannot be read: {error}") from error

    @property
    def state(self) -> Tensor:
        """What they are, as bytes of JSON."""
        told = [
            [one.name, [rule.model_dump(mode="json") for rule in one.rules]]
            for one in self._segments.each
        ]
        return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows ``(n, features)`` are in one of them, ``(n,)``."""
        return np.asarray(self._segments.members(rows).any(axis=1))


def segments_of(
    settings: Sequence[Segment],
    features: Sequence[str],
    columns: Sequence[Column],
    hidden: int = 0,
) -> Segments:
    """The segments that a setting names.

    Args:
        settings: The setting.
        features: Names in the order of the columns.
        columns: Their types, in the same order; none where all are numbers without gaps.
        hidden: How many of the first columns are a hidden vector, of which no segment can be told.

    Raises:
        SettingsError: A column is unknown, a rule cannot be read, two segments have one name, or
            there are more than 100; the message names the setting and the value.
    """
    known = list(columns) or [Column(name=name) for name in features]
    usable = {column.name: column for column in known[hidden:]}
    each = [named for one in settings for named in _named(one, usable, features)]
    if len(each) > MOST_SEGMENTS:
        raise SettingsError(
            f"segments: {len(each)} segments, and {MOST_SEGMENTS} is the most in all "
            f"({', '.join(f'{name} makes {count}' for name, count in _sizes(settings, each))})"
        )
    twice = [name for name, count in Counter(one.name for one in each).items() if count > 1]
    if twice:
        raise SettingsError(f"segments: two segments are named {twice[0]!r}")
    return Segments(each, features, columns)


def _sizes(settings: Sequence[Segment], each: Sequence[Named]) -> list[tuple[str, int]]:
    columns = [one.column for one in settings if one.column is not None]
    of = Counter(one.rules[0].feature for one in each)
    return [(f"column {name!r}", of[name]) for name in dict.fromkeys(columns)]


def _named(one: Segment, usable: dict[str, Column], features: Sequence[str]) -> Iterator[Named]:
    if one.rule is not None:
        yield _by_rule(one, usable)
        return
    column = usable.get(str(one.column))
    if column is None:
        raise SettingsError(_unknown(str(one.column), usable, features))
    made = _by_value(column) if one.ranges is None else _by_range(column, one.ranges)
    yield from (Named(_name(rules), rules) for rules in made)
    if column.nullable:
        rules = (Rule(feature=column.name, operator="is missing"),)
        yield Named(_name(rules), rules)


def _unknown(name: str, usable: dict[str, Column], features: Sequence[str]) -> str:
    if not usable:
        return (
            f"segments: {name!r} cannot be told: of images, texts and tensors only a hidden vector "
            "is logged; send named facts with them, whose columns can be segments"
        )
    if name in features:
        return (
            f"segments: column {name!r} is a part of the hidden vector, of which no segment can be "
            f"told; the named facts are {list(usable)}"
        )
    return f"segments: there is no column {name!r}; the columns are {list(usable)}"


def _by_value(column: Column) -> list[tuple[Rule, ...]]:
    """A segment for each value of a column; categories never seen are one more."""
    if column.kind is Kind.BOOLEAN:
        return [(_rule(column, "==", value),) for value in (True, False)]
    if column.kind is not Kind.CATEGORY:
        how = "give its ranges" if column.kind in ORDERED else "give a rule"
        raise SettingsError(
            f"segments: column {column.name!r} is a {column.kind.value}, which has too many "
            f"values; {how}"
        )
    return [
        *((_rule(column, "==", level),) for level in column.levels),
        (_rule(column, "not in", column.levels),),
    ]


def _by_range(column: Column, bounds: tuple[float, ...]) -> list[tuple[Rule, ...]]:
    """A segment below the first bound, between two, and from the last one on."""
    if column.kind not in ORDERED or column.kind is Kind.BOOLEAN:
        raise SettingsError(
            f"segments: column {column.name!r} is a {column.kind.value}, which has no ranges"
        )
    low, high = (_rule(column, "<", bounds[0]),), (_rule(column, ">=", bounds[-1]),)
    between = [
        (_rule(column, ">=", a), _rule(column, "<", b)) for a, b in itertools.pairwise(bounds)
    ]
    return [low, *between, high]


def _rule(column: Column, operator: str, value: object) -> Rule:
    told = {"feature": column.name, "operator": operator, "value": value}
    return Rule.model_validate(told)


def _by_rule(one: Segment, usable: dict[str, Column]) -> Named:
    text = str(one.rule)
    try:
        rule = parse_rule(text, [], list(usable.values()))
        rules = (rule.model_copy(update={"target": 0}),)
        Segments([Named(text, rules)], list(usable), list(usable.values()))
    except (SettingsError, ValueError) as error:
        why = str(error).removeprefix("--rule: ").replace("'feature < value -> class'", FORM)
        why = "a segment names no class" if "is not a class" in why else why
        raise SettingsError(f"segments: rule {text!r}: {why}") from error
    return Named(one.name or rule.condition, rules)


def _name(rules: tuple[Rule, ...]) -> str:
    """A segment of a column in words.

    >>> _name((Rule(feature="amount", operator=">=", value=0.0),))
    'amount >= 0'
    """
    first, second = rules[0], rules[-1]
    if first is not second:
        low, high = (rule.condition.rpartition(" ")[2] for rule in rules)
        return f"{low} <= {first.feature} < {high}"
    if first.operator == "not in":
        return f"{first.feature} (unseen)"
    if first.operator == "==":
        return first.condition.replace(" == ", " = ", 1)
    return first.condition
