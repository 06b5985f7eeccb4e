"""How far each facet of the newest rows is from the reference rows, and how far it would be without
drift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import MISSING, UNSEEN, Counts, gaps_in
from bento_selfheal.healing.drift.distance.chances import likelihood

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
    values, gaps = _compare(filled, known), _compare(gaps_in(counts), known_gaps)
    new = _compare(_two(filled, UNSEEN), _two(known, UNSEEN))
    of_gaps = np.asarray(gaps.z > values.z)
    return Moves(
        divergence=np.where(of_gaps, gaps.divergence, values.divergence),
        expected=np.where(of_gaps, gaps.expected, values.expected),
        z=np.where(of_gaps, gaps.z, values.z),
        chance=np.minimum(2 * np.minimum(values.chance, gaps.chance), 1.0),
        gaps=of_gaps,
        unseen=np.asarray(new.divergence / np.maximum(values.divergence, 1e-12)),
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


def _compare(counts: Counts, known: Counts) -> Compared:
    n, m = counts.sum(axis=1), known.sum(axis=1)
    ratio, cells = _ratio(*_merged(counts, known, n, m))
    freedom, rows = np.maximum(cells - 1, 1), 2 * np.maximum(n + m, 1)
    told = (cells > 1) & (n > 0) & (m > 0)
    return Compared(
        divergence=np.where(told, ratio / rows, 0.0),
        expected=np.where(told, freedom / rows, 0.0),
        z=np.where(told, (ratio - freedom) / np.sqrt(2 * freedom), 0.0),
        chance=np.where(told, chi_squared_tail(ratio, freedom), 1.0),
    )


def chi_squared_tail(
    values: NDArray[np.float64], freedom: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Chance of such values or larger ones."""
    half = (torch.from_numpy(np.asarray(x, dtype=np.float64)) / 2 for x in (freedom, values))
    return np.asarray(torch.special.gammaincc(*half).numpy())


def normal_quantile(chance: float) -> float:
    """What a normal number exceeds with this chance."""
    return -float(torch.special.ndtri(torch.tensor(max(chance, SMALLEST), dtype=torch.float64)))


def _two(counts: Counts, cell: int) -> Counts:
    """One cell against all others."""
    one = counts[:, cell : cell + 1]
    return np.concatenate([one, counts.sum(axis=1, keepdims=True) - one], axis=1)


def _merged(
    counts: Counts, known: Counts, n: NDArray[np.float64], m: NDArray[np.float64]
) -> tuple[Counts, Counts]:
    """Rare cells share one; where even that is rare, it belongs to the commonest."""
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


def labels_needed(spread: float, change: float, looks: int, reference: float) -> float:
    """Labels that show such a change of a share with a chance of 80 %; infinite where the reference
    rows are too few for it.

    Args:
        spread: Variance of one row.
        change: Of the share.
        looks: How often is looked.
        reference: Rows that it is compared with.
    """
    both = (normal_quantile(ALPHA / looks / 4) + normal_quantile(0.2)) ** 2 * spread
    left = change**2 - both / max(reference, 1.0)
    return both / left if left > 0 else math.inf
