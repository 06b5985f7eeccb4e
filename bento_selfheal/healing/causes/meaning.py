"""Whether the classes follow from the inputs as they did, as far as labels tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import OUTSIDE, TAILS, WIDTH, Codes, sums_in
from bento_selfheal.healing.causes.moves import ALPHA, chi_squared_tail

LOOKS = 8
"""Most looks at the labels of one drift, which share `ALPHA`."""
LEAST_ROWS, LEAST_SPREAD = 5, 2.0
"""Rows of a cell in both samples, and their number times the variance of one: fewer share one."""

ROUNDS, MOST_WEIGHT = 25, 20.0
"""Of raking, and the largest weight of a reference row, in means."""
LEAST_MATCHED = 50.0
"""Reference rows, by their weights, that labelled rows are compared with at least."""
RARE_TAIL = 0.05
"""Of a column that moved, cells of the smallest and largest numbers with fewer reference rows hold
rows that are not alike."""
TOLD_SHIFT = 2.0
"""Standard errors from which on a cell counts among those that changed."""


@dataclass(frozen=True)
class Sample:
    """Labelled rows as they are compared.

    Args:
        codes: Their cells, ``(n, facets)``.
        missed: Whether the label is each class less its probability, ``(n, classes)``.
    """

    codes: Codes
    missed: NDArray[np.float64]

    def only(self, places: NDArray[np.bool_]) -> Sample:
        """Some of the rows."""
        return Sample(self.codes[places], self.missed[places])


@dataclass(frozen=True)
class Meaning:
    """What labels say.

    Attributes:
        changed: Whether the classes no longer follow from the inputs as they did.
        z: Of each facet, how far its cells' classes are from what was known of such rows, in
            standard deviations of no change, ``(facets,)``.
        shifted: Which cells changed, ``(facets, WIDTH)``.
        outside: Share of the labelled rows that no reference row is like, of which labels tell
            nothing.
        matched: Reference rows that were compared with, by their weights.
    """

    changed: bool
    z: NDArray[np.float64]
    shifted: NDArray[np.bool_]
    outside: float
    matched: float


def meaning(
    new: Sample, known: Sample, answers: list[int], moved: list[int], change: float
) -> Meaning:
    """Compare labelled rows with reference rows that are like them.

    The reference rows are weighted so that they have the same answers, and the same values in the
    columns that moved (raking, Deming & Stephan 1940). A model that is wrong in a place where there
    are more rows now is then no sign of a change. Half of `ALPHA` is for the answers, half for all
    other facets.

    Args:
        new: Labelled rows of the drift.
        known: Reference rows.
        answers: Facets that are the model's answers.
        moved: Facets whose values moved.
        change: Of the chance of a class, the smallest that counts; of rare classes less.
    """
    matched_by = list(dict.fromkeys([*answers, *moved]))
    like = np.ones(len(new.codes), dtype=bool)
    for i in matched_by:
        like &= _has_counterparts(new.codes[:, i], known.codes[:, i], tails=i in moved)
    outside = 1 - float(like.mean()) if len(like) else 0.0
    compared = new.only(like)
    weights = _raked(compared.codes[:, matched_by], known.codes[:, matched_by])
    matched = float(weights.sum() ** 2 / max((weights**2).sum(), 1e-12))
    facets = new.codes.shape[1]
    nothing = np.zeros(facets), np.zeros((facets, WIDTH), dtype=bool)
    if matched < LEAST_MATCHED or not like.any():
        return Meaning(False, *nothing, outside, matched)
    ratio, freedom, effect, shifted = _compare(compared, known, weights)
    chance = chi_squared_tail(ratio, np.maximum(freedom, 1)) * ratio.shape[1]
    chance[effect < np.minimum(change, np.sqrt((known.missed**2).mean(axis=0)) / 4)] = 1.0
    chance = chance.min(axis=1)
    share = ALPHA / LOOKS / 2
    limit = np.where(np.isin(np.arange(facets), answers), share / len(answers), share / facets)
    z = ((ratio - freedom) / np.sqrt(2 * np.maximum(freedom, 1))).max(axis=1)
    return Meaning(bool((chance < limit).any()), z, shifted, outside, matched)


def _has_counterparts(new: Codes, known: Codes, *, tails: bool) -> NDArray[np.bool_]:
    """Which cells ``(n,)`` have reference rows that are alike."""
    share = np.bincount(known, minlength=WIDTH) / len(known)
    there = share > 0
    there[list(OUTSIDE)] = False
    if tails:
        there[list(TAILS)] &= share[list(TAILS)] >= RARE_TAIL
    return np.asarray(there[new])


def _raked(new: Codes, known: Codes) -> NDArray[np.float64]:
    """Weights of the reference rows, ``(m,)``, with which each facet's cells have the shares that
    they have among the new rows."""
    weights = np.ones(len(known))
    for _ in range(ROUNDS if len(new) else 0):
        for own, others in zip(new.T, known.T, strict=True):
            wanted = np.bincount(own, minlength=WIDTH) / len(new)
            found = np.bincount(others, weights, minlength=WIDTH)
            factor = wanted * weights.sum() / np.where(found > 0, found, 1)
            weights = weights * factor[others]
        weights = np.minimum(weights, MOST_WEIGHT * weights.mean())
    return weights


def _compare(
    new: Sample, known: Sample, weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """By facet and class, squared standard errors between both samples summed over cells, how many
    cells, and how far the cells are apart (root mean square, less what chance adds); and which
    cells are far apart."""
    classes = new.missed.shape[1]
    ones, w = np.ones((len(new.missed), 1)), weights[:, None]
    own = sums_in(new.codes, np.concatenate([ones, new.missed, new.missed**2], axis=1))
    other = sums_in(
        known.codes, np.concatenate([w, w**2, w * known.missed, w * known.missed**2], axis=1)
    )
    n, total, squares = own[..., :1], other[..., :1], other[..., 1:2]
    a, aa = own[..., 1 : 1 + classes], own[..., 1 + classes :]
    b, bb = other[..., 2 : 2 + classes], other[..., 2 + classes :]
    z, there, error = _standard_errors(n, a, aa, total, squares, b, bb)
    rest = [np.where(there.any(axis=-1, keepdims=True), 0, x).sum(axis=1, keepdims=True)
            for x in (n, a, aa, total, squares, b, bb)]  # fmt: skip
    z_rest, there_rest, _ = _standard_errors(*rest)
    apart = (n * error**2 * (z**2 - there)).sum(axis=1) / n.sum(axis=1)
    ratio = (z**2).sum(axis=1) + (z_rest**2).sum(axis=1)
    cells = there.sum(axis=1) + there_rest.sum(axis=1)
    effect = np.sqrt(np.maximum(apart, 0))
    return (
        ratio,
        cells.astype(np.float64),
        effect,
        np.asarray((np.abs(z) > TOLD_SHIFT).any(axis=-1)),
    )


def _standard_errors(
    n: NDArray[np.float64],
    a: NDArray[np.float64],
    aa: NDArray[np.float64],
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
    b: NDArray[np.float64],
    bb: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """How far the means of both samples are apart, 0 where there are too few rows to tell; where
    there are enough; and the standard errors."""
    m = total**2 / np.maximum(squares, 1e-12)  # rows that the weights amount to
    weight = np.maximum(total, 1e-12)
    spread = (aa + m * bb / weight) / np.maximum(n + m, 1e-12)
    least = np.minimum(n, m)
    there = (least >= LEAST_ROWS) & (least * spread >= LEAST_SPREAD)
    error = np.sqrt(spread * (1 / np.maximum(n, 1) + 1 / np.maximum(m, 1)))
    z = (a / np.maximum(n, 1) - b / weight) / np.maximum(error, 1e-12)
    return np.where(there, z, 0.0), np.asarray(there), error
