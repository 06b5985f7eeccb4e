"""What of rows is compared with the training rows: a share, how often each category comes, a
hidden vector. Each says in standard deviations of calm rows how far the newest rows are away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.drift.distance.chances import Likelihoods, Tails, likelihood, places

Floats = NDArray[np.float64]
Sums = NDArray[np.float64] | NDArray[np.int64]
Codes = NDArray[np.float32]
Rows = int | NDArray[np.int64]
Calm = dict[int, tuple[float, float]]

ROWS_OF_A_CELL = 25
"""A batch with more rows for each cell is drawn cell by cell, which is less work then."""

CALM_REACH = 40
"""Standard deviations from the usual share within which all calm rows are."""


class Compared(Protocol):
    """Something that rows have, in sums that add up over batches."""

    @property
    def name(self) -> str:
        """What people call it."""

    def sums(self, rows: Codes) -> Floats:
        """Of a batch of rows ``(n, features)``: sums, ``(k,)``."""

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Iterator[Sums]:
        """Sums of calm batches of so many rows, some runs at a time, ``(some, batches, k)``. Every
        run draws anew what the training rows leave open: how often each value comes in truth."""

    def raw(self, sums: Sums, rows: Rows) -> Floats:
        """What a distance is told from: of sums over so many rows, ``(…, k)``, a number ``(…)``."""

    def calm_distance(self, raw: Floats, rows: int) -> Floats:
        """Distances of calm rows by what `raw` gives, ``(…)``; learns from them how calm rows are.
        Called with ascending numbers of rows."""

    def distance(self, sums: Sums, rows: int) -> Floats:
        """How far sums over so many rows, ``(…, k)``, are from the training rows, ``(…)``."""


@dataclass
class Share:
    """The share of rows that lack a value, or have one that was never seen.

    The distance is a chance, in standard deviations of the normal distribution: that as few rows,
    or as many, have it if the share is that of the training rows, which is known no better than
    their number allows. It is the two tails of the beta-binomial distribution, so that it needs
    no spread, and a share of 0 or 1 is as good as any.

    Args:
        name: What people call it.
        has: Which rows have it.
        without: Training rows that do not.
        having: Training rows that do.
    """

    name: str
    has: Callable[[Codes], NDArray[np.bool_]]
    without: float
    having: float
    _tails: Tails | None = None

    def sums(self, rows: Codes) -> Floats:
        """As `Compared.sums`."""
        return np.asarray([self.has(rows).sum()], dtype=np.float64)

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Iterator[Sums]:
        """As `Compared.draw`."""
        shares = draw.beta(self.having + 0.5, self.without + 0.5, size=(runs, 1, 1))
        yield draw.binomial(size, shares, size=(runs, batches, 1))

    def raw(self, sums: Sums, rows: Rows) -> Floats:
        """How many rows have it, ``(…)``."""
        return np.asarray(sums[..., 0], dtype=np.float64)

    def calm_distance(self, raw: Floats, rows: int) -> Floats:
        """As `Compared.calm_distance`."""
        tails = Tails.of(rows, self.having + 0.5, self.without + 0.5, CALM_REACH)
        return tails.distance(raw.astype(np.int64))

    def distance(self, sums: Sums, rows: int) -> Floats:
        """As `Compared.distance`."""
        if self._tails is None or self._tails.rows != rows:
            self._tails = Tails.of(rows, self.having + 0.5, self.without + 0.5)
        return self._tails.distance(sums[..., 0].astype(np.int64))


@dataclass
class Mix:
    """How often each category comes among the rows that have one.

    The distance is the likelihood ratio of two samples having one distribution (Wilks 1938), whose
    cube root is all but normal (Wilson & Hilferty 1931), less its mean on calm rows and over its
    spread there.

    Args:
        name: What people call it.
        place: The column's place in a row.
        cells: The cell that each level is counted in, and at the end the one of those never seen,
            ``(levels + 1,)``: a category too rare to be compared by itself shares one with them.
        known: Training rows in each cell, ``(cells,)``; more than 0.
        share: Of rows that have a category.
    """

    name: str
    place: int
    cells: NDArray[np.int64]
    known: Floats
    share: float
    calm: Calm = field(default_factory=dict)
    """By number of rows, ascending: mean and spread of the cube root on calm rows; of numbers
    between, about those between."""

    def __post_init__(self) -> None:
        self._likelihoods = Likelihoods(self.known)

    def sums(self, rows: Codes) -> Floats:
        """As `Compared.sums`."""
        codes = rows[:, self.place]
        codes = np.minimum(codes[~np.isnan(codes)], len(self.cells) - 1).astype(np.int64)
        return np.bincount(self.cells[codes], minlength=len(self.known)).astype(np.float64)

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Iterator[Sums]:
        """As `Compared.draw`."""
        rows, cells = max(round(size * self.share), 1), len(self.known)
        firsts = np.arange(batches)[:, None] * cells
        for _ in range(runs):
            shares = draw.dirichlet(self.known)
            if rows > ROWS_OF_A_CELL * cells:
                yield draw.multinomial(rows, shares, size=(1, batches))
                continue
            drawn = firsts + places(draw, shares, (batches, rows))
            counts = np.bincount(drawn.ravel(), minlength=batches * cells)
            yield counts.reshape(1, batches, cells)

    def raw(self, sums: Sums, rows: Rows) -> Floats:
        """The cube root of the likelihood ratio, ``(…)``; 0 where no row has a category."""
        del rows
        counts = sums.astype(np.int64, copy=False)
        whole = likelihood(counts.sum(axis=-1), self.known.sum())
        alone = counts.ndim == 1
        cells = likelihood(counts, self.known) if alone else self._likelihoods(counts)
        return np.asarray(np.cbrt(2 * (cells @ np.ones(len(self.known)) - whole)))

    def calm_distance(self, raw: Floats, rows: int) -> Floats:
        """As `Compared.calm_distance`."""
        return _calm_distance(self.calm, raw, rows)

    def distance(self, sums: Sums, rows: int) -> Floats:
        """As `Compared.distance`."""
        return _distance(self.calm, self.raw(sums, rows), rows)


@dataclass
class Vector:
    """Where the mean of the hidden vectors lies, by its largest principal components.

    The distance is Hotelling's, as the mean of the reference set is known no better than its rows
    allow; its cube root less its mean on calm rows and over its spread there, as in `Mix`.

    Args:
        name: What people call it.
        places: Columns of the hidden vector in a row.
        rows: The reference set's, ``(m, len(places))``.
        most: Most components, which so few rows cannot tell more of.
    """

    name: str
    places: list[int]
    rows: Floats
    most: int
    calm: Calm = field(default_factory=dict)
    """By number of rows, ascending: mean and spread of the cube root on calm rows; of numbers
    between, about those between."""

    def __post_init__(self) -> None:
        self._mean = self.rows.mean(axis=0)
        _, spread, axes = np.linalg.svd(self.rows - self._mean, full_matrices=False)
        kept = (spread > spread[0] * 1e-6) & (np.arange(len(spread)) < self.most)
        self._axes = axes[kept].T / spread[kept] * np.sqrt(len(self.rows))
        self._drawn = (self.rows - self._mean) @ self._axes

    def sums(self, rows: Codes) -> Floats:
        """As `Compared.sums`."""
        seen = (rows[:, self.places].astype(np.float64) - self._mean) @ self._axes
        return np.asarray(seen.sum(axis=0))

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Iterator[Sums]:
        """As `Compared.draw`: rows of the reference set, each as likely as chance has it."""
        m = len(self._drawn)
        for _ in range(runs):
            likely = draw.dirichlet(np.ones(m))
            if size > m:  # how often each comes is then less to draw than which come
                yield draw.multinomial(size, likely, size=(1, batches)) @ self._drawn
                continue
            drawn = self._drawn.take(places(draw, likely, (batches, size)), axis=0)
            yield drawn.sum(axis=1)[None]

    def raw(self, sums: Sums, rows: Rows) -> Floats:
        """The cube root of Hotelling's distance, ``(…)``."""
        known = 1 / (1 / rows + 1 / len(self.rows))
        return np.asarray(np.cbrt(known / rows**2 * (sums**2).sum(axis=-1)))

    def calm_distance(self, raw: Floats, rows: int) -> Floats:
        """As `Compared.calm_distance`."""
        return _calm_distance(self.calm, raw, rows)

    def distance(self, sums: Sums, rows: int) -> Floats:
        """As `Compared.distance`."""
        return _distance(self.calm, self.raw(sums, rows), rows)


def _calm_distance(calm: Calm, raw: Floats, rows: int) -> Floats:
    calm[rows] = float(raw.mean()), max(float(raw.std()), 1e-9)
    return _distance(calm, raw, rows)


def _distance(calm: Calm, raw: Floats, rows: int) -> Floats:
    mean, spread = (
        np.interp(rows, list(calm), found) for found in zip(*calm.values(), strict=True)
    )
    return np.asarray((raw - mean) / spread)
