"""How far each facet of the newest rows is from the reference rows, and how far it would be without
drift."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import MISSING, UNSEEN, Counts, gaps_in
from bento_selfheal.healing.drift.distance.chances import Tails, likelihood

LEAST_EXPECTED = 5.0
"""Rows that a cell has at least without drift, in both samples; those with fewer share one."""
ALPHA = 0.01
"""Chance that any facet is named where none has moved."""
SMALLEST = 1e-300


@dataclass(frozen=True)
class Moves:
    """Of each facet, ``(facets,)`` each: of its values, or of its gaps where these moved further.

    The divergence is Jensen and Shannon's, of both samples weighted by their rows, in nats. Times
    twice the rows it is the likelihood ratio of both having one distribution (Wilks 1938), which
    without drift is chi-squared with as many degrees of freedom as there are cells but one.
    """

    divergence: NDArray[np.float64]
    expected: NDArray[np.float64]
    """Of no drift, on average over samples of this size"""
    z: NDArray[np.float64]
    """Divergence less what is expected, in standard deviations of no drift"""
    chance: NDArray[np.float64]
    """That it is so large without drift"""
    gaps: NDArray[np.bool_]
    """Whether it is missing values that moved"""
    unseen: NDArray[np.float64]
    """Share of the divergence of values that categories explain which training lacked"""


def moves(counts: Counts, known: Counts, known_gaps: Counts) -> Moves:
    """Compare the newest rows with known ones.

    Args:
        counts: Newest rows in each cell, ``(facets, WIDTH)``.
        known: Known rows in each.
        known_gaps: Known rows with a value and without, ``(facets, 2)``.
    """
    filled, known = _filled(counts), _filled(known)
    values = _compare(filled, known, *_merged(filled, known))
    gaps = _compare_shares(gaps_in(counts), known_gaps)
    new = _compare_shares(_against(filled, UNSEEN), _against(known, UNSEEN))
    of_gaps = np.asarray(gaps.z > np.maximum(values.z, new.z))
    of_new = np.asarray(new.z > values.z)
    share = np.asarray(new.divergence / np.maximum(values.divergence, 1e-12))
    best = [of_gaps, of_new]
    return Moves(
        divergence=np.select(best, [gaps.divergence, new.divergence], values.divergence),
        expected=np.select(best, [gaps.expected, new.expected], values.expected),
        z=np.select(best, [gaps.z, new.z], values.z),
        chance=np.minimum(3 * np.minimum(np.minimum(values.chance, gaps.chance), new.chance), 1.0),
        gaps=of_gaps,
        unseen=np.where(of_new, 1.0, share),
    )


def _filled(counts: Counts) -> Counts:
    out = counts.copy()
    out[:, MISSING] = 0
    return out


@dataclass(frozen=True)
class Compared:
    """As `Moves`, of values alone or of gaps alone."""

    divergence: NDArray[np.float64]
    expected: NDArray[np.float64]
    z: NDArray[np.float64]
    chance: NDArray[np.float64]


def _compare(counts: Counts, known: Counts, own: Counts, other: Counts) -> Compared:
    """Of rows in each cell, and in cells that are not too rare."""
    n, m = counts.sum(axis=1), known.sum(axis=1)
    ratio, cells = _ratio(own, other)
    freedom, rows = np.maximum(cells - 1, 1), 2 * np.maximum(n + m, 1)
    told = (cells > 1) & (n > 0) & (m > 0)
    return Compared(
        divergence=np.where(told, ratio / rows, 0.0),
        expected=np.where(told, freedom / rows, 0.0),
        z=np.where(told, (ratio - freedom) / np.sqrt(2 * freedom), 0.0),
        chance=np.where(told, chi_squared_tail(ratio, freedom), 1.0),
    )


def _compare_shares(counts: Counts, known: Counts) -> Compared:
    """Of rows that have something or not, ``(facets, 2)``: chances hold however few have it."""
    found = _compare(counts, known, counts, known)
    chance, rows = np.ones(len(counts)), counts.sum(axis=1)
    for i in np.flatnonzero((counts[:, 1] + known[:, 1] > 0) & (rows > 0)):
        tails = Tails.of(int(rows[i]), known[i, 1] + 0.5, known[i, 0] + 0.5)
        chance[i] = tails.chances[int(counts[i, 1]) - tails.first]
    return replace(found, chance=np.minimum(chance, 1.0))


def chi_squared_tail(
    values: NDArray[np.float64], freedom: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Chance of such values or larger ones."""
    half = (torch.from_numpy(np.asarray(x, dtype=np.float64)) / 2 for x in (freedom, values))
    return np.asarray(torch.special.gammaincc(*half).numpy())


def normal_quantile(chance: float) -> float:
    """What a normal number exceeds with this chance."""
    return -float(torch.special.ndtri(torch.tensor(max(chance, SMALLEST), dtype=torch.float64)))


def _against(counts: Counts, cell: int) -> Counts:
    """All other cells against one, ``(facets, 2)``."""
    one = counts[:, cell : cell + 1]
    return np.concatenate([counts.sum(axis=1, keepdims=True) - one, one], axis=1)


def _merged(counts: Counts, known: Counts) -> tuple[Counts, Counts]:
    """Rare cells share one; where even that is rare, it belongs to the commonest."""
    n, m = counts.sum(axis=1), known.sum(axis=1)
    least = (counts + known) * (np.minimum(n, m) / np.maximum(n + m, 1))[:, None]
    rare = least < LEAST_EXPECTED
    pooled = np.where(rare, least, 0).sum(axis=1)
    enough, largest = pooled >= LEAST_EXPECTED, least.argmax(axis=1)
    out = []
    for own in (counts, known):
        rest = np.where(rare, own, 0).sum(axis=1)
        kept = np.where(rare, 0.0, own)
        kept[np.arange(len(kept)), largest] += np.where(enough, 0, rest)
        out.append(np.concatenate([kept, np.where(enough, rest, 0)[:, None]], axis=1))
    return out[0], out[1]


def _ratio(counts: Counts, known: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Likelihood ratios, and how many cells have rows."""
    rows = counts + known > 0
    # A cell that the reference rows lack says as much as one with next to no row.
    cells = likelihood(counts, np.maximum(known, 1e-9))
    whole = likelihood(counts.sum(axis=1), np.maximum(known.sum(axis=1), 1e-9))
    ratio = 2 * (np.where(rows, cells, 0.0).sum(axis=1) - whole)
    return np.maximum(ratio, 0.0), rows.sum(axis=1).astype(np.float64)


def smallest_change(spread: float, looks: int, labels: float, known: float) -> float:
    """Of a share, the smallest change that is seen with a chance of 80 %.

    Args:
        spread: Variance of one row.
        looks: How often is looked.
        labels: Rows that are compared.
        known: Rows that they are compared with.
    """
    errors = normal_quantile(ALPHA / looks / 4) + normal_quantile(0.2)
    return errors * math.sqrt(spread * (1 / max(labels, 1.0) + 1 / max(known, 1.0)))
