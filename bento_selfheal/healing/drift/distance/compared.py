"""What of rows is compared with the training rows: a share, how often each category comes, a
hidden vector. Each says in standard deviations of calm rows how far the newest rows are away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.float32]

LEAST_LIKELY = 1e-300
"""A chance below this cannot be told from 0."""


class Compared(Protocol):
    """Something that rows have, in sums that add up over batches."""

    @property
    def name(self) -> str:
        """What people call it."""

    def sums(self, rows: Codes) -> Floats:
        """Of a batch of rows ``(n, features)``: sums, ``(k,)``."""

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Floats:
        """Sums of calm batches of so many rows, ``(runs, batches, k)``. Every run draws anew what
        the training rows leave open: how often each value comes in truth."""

    def distance(self, sums: Floats, rows: int) -> Floats:
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
    _tables: dict[int, Floats] = field(default_factory=dict)

    def sums(self, rows: Codes) -> Floats:
        """As `Compared.sums`."""
        return np.asarray([self.has(rows).sum()], dtype=np.float64)

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Floats:
        """As `Compared.draw`."""
        shares = draw.beta(self.having + 0.5, self.without + 0.5, size=(runs, 1))
        return draw.binomial(size, shares, size=(runs, batches))[..., None].astype(np.float64)

    def distance(self, sums: Floats, rows: int) -> Floats:
        """As `Compared.distance`."""
        if rows not in self._tables:
            self._tables[rows] = _tails(rows, self.having + 0.5, self.without + 0.5)
        return self._tables[rows][sums[..., 0].astype(np.int64)]


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
    calm: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By number of rows: mean and spread of the cube root on calm rows."""

    def sums(self, rows: Codes) -> Floats:
        """As `Compared.sums`."""
        codes = rows[:, self.place]
        codes = np.minimum(codes[~np.isnan(codes)], len(self.cells) - 1).astype(np.int64)
        return np.bincount(self.cells[codes], minlength=len(self.known)).astype(np.float64)

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Floats:
        """As `Compared.draw`."""
        shares = draw.dirichlet(self.known, size=runs)[:, None]
        rows = max(round(size * self.share), 1)
        return draw.multinomial(rows, shares, size=(runs, batches)).astype(np.float64)

    def raw(self, sums: Floats, rows: int) -> Floats:
        """The cube root of the likelihood ratio, ``(…)``; 0 where no row has a category."""
        del rows
        new = sums.sum(axis=-1, keepdims=True)
        old = self.known.sum()
        both = (sums + self.known) / (new + old)
        ratio = _surprise(sums, new * both) + _surprise(self.known, old * both)
        return np.asarray(np.cbrt(2 * ratio))

    def distance(self, sums: Floats, rows: int) -> Floats:
        """As `Compared.distance`."""
        return _standard(self, sums, rows)


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
    calm: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By number of rows: mean and spread of the cube root on calm rows."""

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

    def draw(self, draw: np.random.Generator, runs: int, batches: int, size: int) -> Floats:
        """As `Compared.draw`: rows of the reference set, each as likely as chance has it."""
        m = len(self._drawn)
        out = np.empty((runs, batches, self._drawn.shape[1]))
        for run in range(runs):
            likely = draw.dirichlet(np.ones(m))
            if size > m:  # how often each comes is then less to draw than which come
                out[run] = draw.multinomial(size, likely, size=batches) @ self._drawn
                continue
            places = np.searchsorted(likely.cumsum(), draw.random(batches * size))
            drawn = places.clip(max=m - 1)
            out[run] = self._drawn[drawn].reshape(batches, size, -1).sum(axis=1)
        return out

    def raw(self, sums: Floats, rows: int) -> Floats:
        """The cube root of Hotelling's distance, ``(…)``."""
        known = 1 / (1 / rows + 1 / len(self.rows))
        return np.asarray(np.cbrt(known * ((sums / rows) ** 2).sum(axis=-1)))

    def distance(self, sums: Floats, rows: int) -> Floats:
        """As `Compared.distance`."""
        return _standard(self, sums, rows)


def _standard(one: Mix | Vector, sums: Floats, rows: int) -> Floats:
    mean, spread = one.calm[rows]
    return np.asarray((one.raw(sums, rows) - mean) / spread)


def _surprise(seen: Floats, expected: Floats) -> Floats:
    """``sum seen log(seen / expected)`` over the last axis; nothing where nothing was seen."""
    ratio = np.divide(seen, expected, out=np.ones_like(expected), where=seen > 0)
    return np.asarray((seen * np.log(ratio)).sum(axis=-1))


def _tails(n: int, having: float, without: float) -> Floats:
    """For 0 to n rows that have it, the smaller tail twice, as a distance, ``(n + 1,)``."""
    k = np.arange(n, dtype=np.float64)
    steps = np.log((n - k) * (having + k)) - np.log((k + 1) * (without + n - k - 1))
    logs = np.concatenate([[0.0], steps.cumsum()])
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    tails = np.minimum(chances.cumsum(), chances[::-1].cumsum()[::-1])
    chance = torch.from_numpy((2 * tails).clip(LEAST_LIKELY, 0.5))
    return np.asarray(-torch.special.ndtri(chance).numpy())
