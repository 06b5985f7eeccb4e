"""Whether the classes follow from the inputs as they did, as far as labels tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import WIDTH, Codes, sums_in
from bento_selfheal.healing.causes.matching import Match
from bento_selfheal.healing.causes.moves import ALPHA, chi_squared_tail

LOOKS = 8
"""Most looks at the labels of one drift, which share `ALPHA`."""
LEAST_ROWS, LEAST_SPREAD = 5, 2.0
"""Rows of a cell in both samples, and their number times the variance of one: fewer share one."""

LEAST_MATCHED = 50.0
"""Reference rows, by their weights, that labelled rows are compared with at least."""
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
            standard deviations of no change, ``(facets,)``; less what is common to all rows, as
            a class that became more common moves every cell alike.
        own: Whether that is further than chance allows, ``(facets,)``.
        shifted: Which cells changed, ``(facets, WIDTH)``.
        outside: Share of the labelled rows that no reference row is like, of which labels tell
            nothing.
        matched: Reference rows that were compared with, by their weights.
    """

    changed: bool
    z: NDArray[np.float64]
    own: NDArray[np.bool_]
    shifted: NDArray[np.bool_]
    outside: float
    matched: float


def meaning(new: Sample, known: Sample, answers: list[int], found: Match, change: float) -> Meaning:
    """Compare labelled rows with reference rows that are like them.

    The reference rows are weighted so that they have the same answers, and the same values in the
    inputs that moved. A model that is wrong in a place where there are more rows now is then no
    sign of a change. Half of `ALPHA` is for the answers, half for all other facets.

    Args:
        new: Labelled rows of the drift.
        known: Reference rows.
        answers: Facets that are the model's answers.
        found: Which rows are alike.
        change: Of the chance of a class, the smallest that counts; of rare classes less.
    """
    facets, classes = new.codes.shape[1], new.missed.shape[1]
    if found.rows < LEAST_MATCHED or not found.like.any():
        nothing = np.zeros(facets, dtype=bool), np.zeros((facets, WIDTH), dtype=bool)
        return Meaning(False, np.zeros(facets), *nothing, found.outside, found.rows)
    sums = CellSums.of(new.only(found.like), known, found.weights)
    least = np.minimum(change, np.sqrt((known.missed**2).mean(axis=0)) / 4)
    share = ALPHA / LOOKS / 2 / classes
    limit = np.where(np.isin(np.arange(facets), answers), share / len(answers), share / facets)
    whole, apart = sums.apart(common=True), sums.apart(common=False)
    changed, own = bool(whole.seen(limit, least).any()), apart.seen(limit, least)
    return Meaning(changed, apart.z, own, apart.cells, found.outside, found.rows)


@dataclass(frozen=True)
class Apart:
    """How far the classes of both samples are apart.

    Attributes:
        ratio: Squared standard errors summed over cells, ``(facets, classes)``.
        freedom: What is expected of it, ``(facets, classes)``.
        effect: Root mean square over cells, less what chance adds, ``(facets, classes)``.
        cells: Which cells are far apart, ``(facets, WIDTH)``.
    """

    ratio: NDArray[np.float64]
    freedom: NDArray[np.float64]
    effect: NDArray[np.float64]
    cells: NDArray[np.bool_]

    @property
    def z(self) -> NDArray[np.float64]:
        """In standard deviations of no change, ``(facets,)``."""
        return np.asarray(((self.ratio - self.freedom) / np.sqrt(2 * self.freedom)).max(axis=1))

    def seen(self, limit: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether it is more than chance allows, ``(facets,)``.

        Args:
            limit: Chance of each facet, ``(facets,)``.
            least: Effect by class that counts, ``(classes,)``.
        """
        chance = chi_squared_tail(self.ratio, self.freedom)
        return np.asarray(((chance < limit[:, None]) & (self.effect >= least)).any(axis=1))


@dataclass(frozen=True)
class CellSums:
    """Sums over the rows in each cell of each facet, ``(facets, WIDTH, 1 or classes)``.

    Args:
        n: New rows.
        a: What they missed.
        aa: Its square.
        total: Weights of known rows.
        squares: Their squares.
        b: What they missed, times the weight.
        bb: Its square, times the weight.
        bw: Its square, times the square of the weight.
    """

    n: NDArray[np.float64]
    a: NDArray[np.float64]
    aa: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]
    b: NDArray[np.float64]
    bb: NDArray[np.float64]
    bw: NDArray[np.float64]

    @classmethod
    def of(cls, new: Sample, known: Sample, weights: NDArray[np.float64]) -> CellSums:
        """Of new rows, and of known ones with weights ``(m,)``."""
        classes, w = new.missed.shape[1], weights[:, None]
        ones = np.ones((len(new.missed), 1))
        own = sums_in(new.codes, np.concatenate([ones, new.missed, new.missed**2], axis=1))
        weighted = w, w**2, w * known.missed, w * known.missed**2, (w * known.missed) ** 2
        other = sums_in(known.codes, np.concatenate(weighted, axis=1))
        new_sums = np.split(own, [1, 1 + classes], axis=-1)
        known_sums = np.split(other, [1, 2, 2 + classes, 2 + 2 * classes], axis=-1)
        return cls(*new_sums, *known_sums)

    def apart(self, *, common: bool) -> Apart:
        """How far both samples are apart, with or without what is common to all rows."""
        own = self if common else self._less_common()
        z, there, error = own._standard_errors()
        rest = own._pooled(np.asarray(~there.any(axis=-1, keepdims=True)))
        z_rest, there_rest, _ = rest._standard_errors()
        cells = there.sum(axis=1) + there_rest.sum(axis=1)
        far = (own.n * error**2 * (z**2 - there)).sum(axis=1) / own.n.sum(axis=1)
        return Apart(
            ratio=(z**2).sum(axis=1) + (z_rest**2).sum(axis=1),
            # The mean that was taken off is known from the same rows.
            freedom=np.maximum(cells - (not common), 1).astype(np.float64),
            effect=np.sqrt(np.maximum(far, 0)),
            cells=np.asarray((np.abs(z) > TOLD_SHIFT).any(axis=-1)),
        )

    def _less_common(self) -> CellSums:
        """The same, where both samples missed nothing on average over all rows."""
        a = (self.a.sum(axis=1) / self.n.sum(axis=1))[:, None]
        b = (self.b.sum(axis=1) / self.total.sum(axis=1))[:, None]
        return replace(
            self,
            a=self.a - self.n * a,
            aa=self.aa - 2 * a * self.a + self.n * a**2,
            b=self.b - self.total * b,
            bb=self.bb - 2 * b * self.b + self.total * b**2,
        )

    def _pooled(self, cells: NDArray[np.bool_]) -> CellSums:
        """Some cells ``(facets, WIDTH, 1)`` as one."""
        sums = {name: (own * cells).sum(axis=1, keepdims=True) for name, own in vars(self).items()}
        return CellSums(**sums)

    def _standard_errors(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
        """How far the means of both samples are apart, 0 where there are too few rows to tell;
        where there are enough; and the standard errors."""
        m = self.total**2 / np.maximum(self.squares, 1e-12)  # rows that the weights amount to
        weight = np.maximum(self.total, 1e-12)
        spread = (self.aa + m * self.bb / weight) / np.maximum(self.n + m, 1e-12)
        least = np.minimum(self.n, m)
        there = (least >= LEAST_ROWS) & (least * spread >= LEAST_SPREAD)
        # Rows with large weights may be those that the model is less sure of.
        of_known = np.maximum(spread / np.maximum(m, 1), self.bw / weight**2)
        error = np.sqrt(spread / np.maximum(self.n, 1) + of_known)
        z = (self.a / np.maximum(self.n, 1) - self.b / weight) / np.maximum(error, 1e-12)
        return np.where(there, z, 0.0), np.asarray(there), error
