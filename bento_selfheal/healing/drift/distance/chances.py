"""What distances are worked out with: the tails of a share, likelihoods, and quick draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_LIKELY = 1e-300
"""A chance below this cannot be told from 0."""
PARTS = 1 << 16
"""Parts that the chances of a draw are rounded to."""


@dataclass(frozen=True)
class Tails:
    """The tails of a beta-binomial distribution.

    Attributes:
        rows: Of how many rows it says how many have something.
        first: The fewest rows whose chance is known; fewer count as so many.
        chances: That the tail from so many rows on comes, twice, ``(known,)``.
    """

    rows: int
    first: int
    chances: Floats

    @classmethod
    def of(cls, n: int, having: float, without: float, reach: float = math.inf) -> Self:
        """Of n rows, where the share is beta distributed; known so many standard deviations to
        both sides of the mean."""
        mean, old = n * having / (having + without), having + without
        spread = np.sqrt(mean * without / old * (old + n) / (old + 1))
        far = reach * (spread + 1 + n / old)
        first, last = int(max(mean - far, 0)), int(min(mean + far + 1, n))
        k = np.arange(first, last, dtype=np.float64)
        steps = np.log((n - k) * (having + k) / ((k + 1) * (without + n - k - 1)))
        logs = np.concatenate([[0.0], steps.cumsum()])
        chances = np.exp(logs - logs.max())
        chances /= chances.sum()
        tails = np.minimum(chances.cumsum(), chances[::-1].cumsum()[::-1])
        return cls(n, first, (2 * tails).clip(LEAST_LIKELY, 0.5))

    def distance(self, having: Ints) -> Floats:
        """How far so many rows are from the usual, in standard deviations of the normal
        distribution, ``(…)``."""
        places = np.clip(having - self.first, 0, len(self.chances) - 1)
        chance = torch.from_numpy(np.asarray(self.chances[places]))
        return np.asarray(-torch.special.ndtri(chance).numpy())


def likelihood(seen: Floats | Ints, known: Floats) -> Floats:
    """What a count adds to half the likelihood ratio of two samples having one distribution; that
    of all rows together is taken off the sum.

    Args:
        seen: In the new sample, ``(…)``.
        known: In the old one, ``(…)``; more than 0.
    """
    ratio = seen / known
    # 0 times a logarithm is 0, where that is finite.
    return np.asarray(seen * np.log(ratio.clip(LEAST_LIKELY)) - (seen + known) * np.log1p(ratio))


class Likelihoods:
    """`likelihood` of many windows: that of each count of a cell is worked out once.

    Args:
        known: Rows of the old sample in each cell, ``(cells,)``; more than 0.
    """

    def __init__(self, known: Floats) -> None:
        self._known = known
        self._most = np.zeros(len(known), dtype=np.int64)
        self._look(self._most)

    def __call__(self, counts: Ints) -> Floats:
        """Of counts ``(…, cells)``, by cell, ``(…, cells)``."""
        most = counts.reshape(-1, len(self._known)).max(axis=0)
        if (most > self._most).any():
            self._look(np.maximum(most + most // 4, self._most))
        return self._table.take(counts + self._first)

    def _look(self, most: Ints) -> None:
        self._most, ends = most, (most + 1).cumsum()
        self._first = ends - most - 1
        seen = np.arange(ends[-1]) - self._first.repeat(most + 1)
        self._table = likelihood(seen, self._known.repeat(most + 1))


def places(draw: np.random.Generator, likely: Floats, shape: tuple[int, int]) -> Ints:
    """Places from 0 to k - 1 in an array of this shape, drawn with chances ``(k,)``.

    Chances are rounded to 65,536ths, at random so that they are right on average: a draw is then
    a look into a table.
    """
    ends = np.floor(likely.cumsum() * PARTS + draw.random()).astype(np.int64)
    ends[-1] = PARTS
    parts = ends.copy()
    parts[1:] -= ends[:-1]
    table = np.arange(len(likely), dtype=np.min_scalar_type(len(likely))).repeat(parts)
    count = shape[0] * shape[1]
    raw = draw.bit_generator.random_raw(-(-count // 4)).view(np.uint16)
    return np.asarray(table.take(raw[:count])).reshape(shape)
