"""The ways to look at one column, each with how well it tells the classes apart and its rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.condition import HOURS, WEEKDAYS, part_of
from bento_selfheal.packaging.suggestion.choosing import best_levels, threshold
from bento_selfheal.packaging.suggestion.class_counts import ClassCounts, Floats
from bento_selfheal.rules import Rule

Codes = NDArray[np.float32]
Classes = NDArray[np.int64]
FEWEST = 7
"""Rows of a category, below which nothing can be told of it: seven of seven may be chance."""


@dataclass(frozen=True)
class View:
    """One way to look at a column.

    Attributes:
        strength: How well it ranks a class, 0 to 1.
        surprise: The same in spreads of what shuffled labels give.
        rules: The best rule of each class and side, where one clears the margin.
    """

    strength: float
    surprise: float
    rules: list[Rule]


def views_of(column: Column, codes: Codes, y: Classes, classes: int) -> list[View]:
    """Every way to look at a column: its values, and whether they are missing.

    Args:
        column: The column.
        codes: Its codes, ``(n,)``.
        y: Class of each row, ``(n,)``.
        classes: Number of classes.
    """
    missing = np.isnan(codes)
    known, sizes = codes[~missing], np.bincount(y, minlength=classes).astype(np.float64)
    views = list(_values(column, known, y[~missing], sizes)) if len(known) else []
    if missing.any() and len(known):
        views.append(_gaps(column, missing, y, sizes))
    return views


def left_out(columns: Sequence[Column], rows: Codes) -> dict[str, str]:
    """By column what `views_of` does not look at, and why.

    Args:
        columns: The columns.
        rows: Their codes, ``(n, columns)``.
    """
    out = {}
    for column, codes in zip(columns, rows.T, strict=True):
        known = codes[~np.isnan(codes)]
        if not len(known):
            out[column.name] = "it has no values"
        elif column.kind is Kind.DATETIME:
            out[column.name] = (
                "a rule on how late it is would hold ever after: only weekday and hour are tried"
            )
        elif column.kind is Kind.CATEGORY:
            rare = int((np.bincount(known.astype(np.int64)) < FEWEST).sum())
            if rare:
                out[column.name] = (
                    f"{rare:,} of {len(column.levels):,} categories come less than {FEWEST} times:"
                    " no rule names them"
                )
    return out


def _values(column: Column, known: Codes, y: Classes, sizes: Floats) -> Iterator[View]:
    if column.kind is Kind.CATEGORY:
        yield _named(column, known, y, sizes, column.levels)
    elif column.kind is Kind.DATETIME:
        yield _named(column, part_of(column, known, "weekday"), y, sizes, WEEKDAYS, "weekday")
        hours = part_of(column, known, "hour")
        if hours.any():
            yield _named(column, hours, y, sizes, [float(h) for h in range(HOURS)], "hour")
    else:
        counts = ClassCounts.of(known, y, len(sizes))
        yield View(counts.strength(), counts.surprise(), list(_thresholds(column, counts, sizes)))


def _thresholds(column: Column, counts: ClassCounts, sizes: Floats) -> Iterator[Rule]:
    """The best rule of each class and side."""
    below = np.cumsum(counts.counts, axis=0)[:-1]
    sides = {"<": below, ">": counts.counts.sum(axis=0) - below}
    for target, size in enumerate(sizes):
        for operator, flagged in sides.items():
            hits, total = flagged[:, target], sizes.sum()
            value = threshold(counts.values, hits, flagged.sum(axis=1), size, total)
            if value is None:
                continue
            if column.kind is Kind.BOOLEAN:
                yield _rule(column, "==", operator == ">", target)
            else:
                yield _rule(column, operator, value + column.origin, target)


def _named(
    column: Column, codes: NDArray[Any], y: Classes, sizes: Floats,
    names: Sequence[Any], part: str = "",
) -> View:  # fmt: skip
    """A view of places in a list of names; a place beyond is a category never seen."""
    places = np.minimum(codes, len(names)).astype(np.int64)
    classes = len(sizes)
    cells = np.bincount(places * classes + y, minlength=(len(names) + 1) * classes)
    counts = cells.reshape(-1, classes)[:-1].astype(np.float64)
    rules = []
    for target, size in enumerate(sizes):
        found = best_levels(counts[:, target], counts.sum(axis=1), size, sizes.sum())
        if found:
            values = [names[place] for place in found]
            operator, value = ("in", values) if len(values) > 1 else ("==", values[0])
            rules.append(_rule(column, operator, value, target, part))
    ranked = [_ranking(places, y == target, len(names)) for target in range(classes)]
    return View(max(r.strength() for r in ranked), max(r.surprise() for r in ranked), rules)


def _ranking(places: Classes, mine: NDArray[np.bool_], levels: int) -> ClassCounts:
    """One half of the rows, by how often the other half's rows with the same name are of a class;
    on the same rows, many rare names would rank any class."""
    half = len(places) // 2
    hits = np.bincount(places[:half], weights=mine[:half], minlength=levels + 1)
    rows = np.bincount(places[:half], minlength=levels + 1)
    usual = mine[:half].mean() if half else 0.0
    score = ((hits + usual) / (rows + 1)).astype(np.float32)
    return ClassCounts.of(score[places[half:]], mine[half:].astype(np.int64), 2)


def _gaps(column: Column, missing: NDArray[np.bool_], y: Classes, sizes: Floats) -> View:
    counts = ClassCounts.of(missing.astype(np.float32), y, len(sizes))
    rules = []
    for place, operator in enumerate(("is not missing", "is missing")):
        for target, size in enumerate(sizes):
            own = counts.counts[place : place + 1]
            if best_levels(own[:, target], own.sum(axis=1), size, sizes.sum()):
                rules.append(_rule(column, operator, 0.0, target))
    return View(counts.strength(), counts.surprise(), rules)


def _rule(column: Column, operator: str, value: Any, target: int, part: str = "") -> Rule:
    given = {"feature": column.name, "operator": operator, "value": value, "part": part}
    return Rule.model_validate({**given, "target": target})
