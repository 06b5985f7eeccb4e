"""Weights of reference rows with which they are like labelled ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import (
    ABOVE,
    BELOW,
    FIRST,
    MISSING,
    OUTSIDE,
    QUANTILES,
    TAILS,
    WIDTH,
    Codes,
    Numbers,
)

ROUNDS, MOST_WEIGHT = 25, 20.0
"""Of raking, and the largest weight of a reference row, in means."""
RARE_TAIL = 0.05
"""Of a column that moved, cells of the smallest and largest numbers with fewer reference rows hold
rows that are not alike."""
RIDGE = 0.01
"""Added to the variance of each standardized place, so that few rows tell a direction."""


@dataclass(frozen=True)
class Match:
    """Labelled rows and reference rows that are alike.

    Attributes:
        like: Which labelled rows there is any reference row like, ``(n,)``.
        weights: Of the reference rows, ``(m,)``; with them their cells have the shares that they
            have among these labelled rows.
    """

    like: NDArray[np.bool_]
    weights: NDArray[np.float64]

    @property
    def outside(self) -> float:
        """Share of the labelled rows that no reference row is like."""
        return 1 - float(self.like.mean()) if len(self.like) else 0.0

    @property
    def rows(self) -> float:
        """Reference rows that the weights amount to."""
        return float(self.weights.sum() ** 2 / max((self.weights**2).sum(), 1e-12))


def match(
    new: Codes, known: Codes, answers: Sequence[int], moved: Sequence[int],
    vectors: Iterable[Sequence[int]],
) -> Match:  # fmt: skip
    """Match rows by raking (Deming & Stephan 1940).

    Args:
        new: Cells of labelled rows, ``(n, facets)``.
        known: Cells of reference rows, ``(m, facets)``.
        answers: Facets by which they are matched.
        moved: The same, of columns that moved.
        vectors: The same, as many as are of one input, by all of them together.
    """
    joint = [together(new[:, list(own)], known[:, list(own)]) for own in vectors if len(new)]
    pairs = [(new[:, i], known[:, i], i in moved) for i in dict.fromkeys([*answers, *moved])]
    pairs += [(own, other, True) for own, other in joint]
    like = np.ones(len(new), dtype=bool)
    for own, other, tails in pairs:
        like &= _has_counterparts(own, other, tails=tails)
    return Match(like, _raked([(own[like], other) for own, other, _ in pairs], len(known)))


def together(new: Codes, known: Codes) -> tuple[Codes, Codes]:
    """Cells of the direction in which two samples ``(n, k)`` and ``(m, k)`` of places of a vector
    are farthest apart, in mean or spread (Fisher's discriminant on the bins and their squares):
    each place alone may look alike."""
    mean, spread = _bins(known).mean(axis=0), _bins(known).std(axis=0) + 1e-9
    both = []
    for codes in (new, known):
        places = (_bins(codes) - mean) / spread
        both.append(np.concatenate([places, places**2 - 1], axis=1))
    apart = both[0].mean(axis=0) - both[1].mean(axis=0)
    within = [np.cov(rows, rowvar=False, bias=True) for rows in both]
    axis = np.linalg.solve(sum(within) / 2 + RIDGE * np.eye(len(apart)), apart)
    scores = [np.asarray(rows @ axis, dtype=np.float32)[:, None] for rows in both]
    bins = Numbers.of(scores[1])
    return bins.codes(scores[0])[:, 0], bins.codes(scores[1])[:, 0]


def _bins(codes: Codes) -> NDArray[np.float64]:
    """Bins in their order; a missing value lies in the middle."""
    out = codes.astype(np.float64)
    out[codes == BELOW] = FIRST - 1
    out[codes == ABOVE] = FIRST + len(QUANTILES) + 1
    out[codes == MISSING] = FIRST + len(QUANTILES) / 2
    return out


def _has_counterparts(new: Codes, known: Codes, *, tails: bool) -> NDArray[np.bool_]:
    """Which cells ``(n,)`` have reference rows that are alike."""
    share = np.bincount(known, minlength=WIDTH) / len(known)
    there = share > 0
    there[list(OUTSIDE)] = False
    if tails:
        there[list(TAILS)] &= share[list(TAILS)] >= RARE_TAIL
    return np.asarray(there[new])


def _raked(pairs: Sequence[tuple[Codes, Codes]], known: int) -> NDArray[np.float64]:
    """Weights of reference rows, ``(m,)``, with which the cells of each pair of ``(n,)`` new and
    ``(m,)`` known rows have the shares that they have among the new ones."""
    weights = np.ones(known)
    for _ in range(ROUNDS if len(pairs[0][0]) else 0):
        for own, others in pairs:
            wanted = np.bincount(own, minlength=WIDTH) / len(own)
            found = np.bincount(others, weights, minlength=WIDTH)
            factor = wanted * weights.sum() / np.where(found > 0, found, 1)
            weights = weights * factor[others]
        weights = np.minimum(weights, MOST_WEIGHT * weights.mean())
    return weights
