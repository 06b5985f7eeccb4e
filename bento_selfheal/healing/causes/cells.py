"""The cells that the values of each column are counted in, as the reference rows lay them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.column import ORDERED, Column, Kind

Codes = NDArray[np.uint8]
Counts = NDArray[np.float64]

MISSING, UNSEEN, BELOW, ABOVE, OTHER, FIRST = range(6)
"""Cells that every column has: no value, a category that training lacked, numbers outside those of
the reference rows, rare categories together; from `FIRST` on, quantiles or categories."""
OUTSIDE = (UNSEEN, BELOW, ABOVE)
"""Cells of values that no reference row has."""
QUANTILES = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)
"""Ends of the bins of a number."""
MOST_CELLS = 32
"""Categories that are counted by themselves."""
TAILS = (FIRST, FIRST + len(QUANTILES))
"""Cells of the smallest and the largest numbers."""
WIDTH = FIRST + MOST_CELLS
REFERENCE_ROWS = 5000
"""Most rows of the reference set that are compared with."""
ROWS_AT_ONCE = 256
FACETS_AT_ONCE = 256


@dataclass(frozen=True)
class Numbers:
    """Quantile bins of some columns of numbers.

    Args:
        edges: Upper ends of the bins but the last, ``(facets, len(QUANTILES))``.
        low: Smallest reference value of each, ``(facets,)``.
        high: Largest.
    """

    edges: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Numbers:
        """Of reference values ``(m, facets)``, NaN where one is missing."""
        edges = np.full((values.shape[1], len(QUANTILES)), np.inf, dtype=np.float32)
        low, high = np.full((2, values.shape[1]), np.inf, dtype=np.float32)
        for i, column in enumerate(values.T):
            known = np.sort(column[~np.isnan(column)])
            if len(known):
                places = (len(known) * np.asarray(QUANTILES)).astype(np.int64)
                edges[i] = known[np.maximum(places - 1, 0)]
                low[i], high[i] = known[0], known[-1]
        return cls(edges, low, high)

    def codes(self, values: NDArray[np.float32]) -> Codes:
        """The cells of values ``(n, facets)``, ``(n, facets)``."""
        out = np.empty(values.shape, dtype=np.uint8)
        for at in range(0, len(values), ROWS_AT_ONCE):
            some = values[at : at + ROWS_AT_ONCE]
            out[at : at + ROWS_AT_ONCE] = FIRST + (some[:, :, None] > self.edges).sum(axis=2)
        out[values < self.low] = BELOW
        out[values > self.high] = ABOVE
        out[np.isnan(values)] = MISSING
        return out


@dataclass(frozen=True)
class Categories:
    """Cells of one column of categories, or of a date, of which only gaps are looked at.

    Args:
        place: The column's place in a row.
        cells: The cell of each level, ``(levels,)``; where there is none, all values have one.
    """

    place: int
    cells: Codes

    @classmethod
    def of(cls, place: int, column: Column, values: NDArray[np.float32]) -> Categories:
        """Of reference values ``(m,)``: the commonest levels each have a cell of their own."""
        if column.kind is not Kind.CATEGORY:
            return cls(place, np.zeros(0, dtype=np.uint8))
        levels = len(column.levels)
        known = values[values < levels].astype(np.int64)
        counts = np.bincount(known, minlength=levels)
        own = np.argsort(-counts, kind="stable")[:MOST_CELLS]
        cells = np.full(levels, OTHER, dtype=np.uint8)
        cells[own] = FIRST + np.arange(len(own))
        return cls(place, cells)

    def codes(self, rows: NDArray[np.float32]) -> Codes:
        """The cells of rows ``(n, features)``, ``(n,)``."""
        values = rows[:, self.place]
        missing = np.isnan(values)
        if not len(self.cells):
            return np.where(missing, MISSING, FIRST).astype(np.uint8)
        table = np.append(self.cells, np.uint8(UNSEEN))
        out = table[np.minimum(np.nan_to_num(values), len(self.cells)).astype(np.int64)]
        return np.where(missing, MISSING, out).astype(np.uint8)


@dataclass(frozen=True)
class TableCells:
    """Cells of the columns of a table, numbers first.

    Args:
        ordered: Places of the numbers in a row.
        numbers: Their bins.
        categories: Cells of the other columns.
    """

    ordered: list[int]
    numbers: Numbers
    categories: list[Categories]

    @classmethod
    def of(cls, columns: Sequence[tuple[int, Column]], rows: NDArray[np.float32]) -> TableCells:
        """Of columns by their places in reference rows ``(m, features)``."""
        ordered = [i for i, column in columns if column.kind in ORDERED]
        others = [(i, column) for i, column in columns if column.kind not in ORDERED]
        categories = [Categories.of(i, column, rows[:, i]) for i, column in others]
        return cls(ordered, Numbers.of(rows[:, ordered]), categories)

    @property
    def places(self) -> list[int]:
        """Places of the columns in a row, in the order of their codes."""
        return [*self.ordered, *(one.place for one in self.categories)]

    def codes(self, rows: NDArray[np.float32]) -> Codes:
        """The cells of rows ``(n, features)``, ``(n, columns)``."""
        others = (one.codes(rows)[:, None] for one in self.categories)
        return np.concatenate([self.numbers.codes(rows[:, self.ordered]), *others], axis=1)


def counts_in(codes: Codes) -> Counts:
    """Rows in each cell of each facet of codes ``(n, facets)``, ``(facets, WIDTH)``."""
    return sums_in(codes, np.ones((len(codes), 1)))[:, :, 0]


def sums_in(codes: Codes, values: NDArray[np.float64]) -> Counts:
    """Sums of values ``(n, k)`` over the rows in each cell of each facet,
    ``(facets, WIDTH, k)``."""
    facets, width = codes.shape[1], values.shape[1]
    out = np.zeros((facets, WIDTH, width))
    for at in range(0, facets, FACETS_AT_ONCE):
        some = codes[:, at : at + FACETS_AT_ONCE].T
        flat = (some + WIDTH * np.arange(len(some))[:, None]).ravel()
        for j in range(width):
            found = np.bincount(flat, np.tile(values[:, j], len(some)), len(some) * WIDTH)
            out[at : at + len(some), :, j] = found.reshape(len(some), WIDTH)
    return out


def gaps_in(counts: Counts) -> Counts:
    """Of rows in each cell ``(facets, WIDTH)``, those with a value and those without,
    ``(facets, 2)``."""
    return np.stack([counts[:, MISSING + 1 :].sum(axis=1), counts[:, MISSING]], axis=1)


def training_counts(known: NDArray[np.int64], cells: Codes) -> Counts:
    """Training rows in each cell of a column of categories, ``(WIDTH,)``; a category that came once
    was unseen until then, so there are about as many others left (Good 1953).

    Args:
        known: As `counts_of` counts them.
        cells: The cell of each level.
    """
    out = np.bincount(cells, known[:-2], minlength=WIDTH).astype(np.float64)
    once = np.bincount(cells, known[:-2] == 1, minlength=WIDTH)
    out += np.bincount([UNSEEN], [known[-2] + once.sum()], minlength=WIDTH) - once
    return out
