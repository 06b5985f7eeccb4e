"""How far categories, missing values and hidden vectors of the newest rows are from training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.drift.distance.compared import Compared, Mix, Share, Vector
from bento_selfheal.healing.drift.distance.limit import FEWEST, calibrate, run_length_of
from bento_selfheal.inputs.counts import Aspect, FeatureStatistics
from bento_selfheal.packaging.package import Package

HIDDEN = "hidden vector"
LEAST_EXPECTED = 5.0
"""Rows of a full window that have a category, at least, for it to be compared by itself."""
MOST_CELLS = 32
"""Categories of a column that are compared by themselves."""
ROWS_OF_COMPONENT, MOST_COMPONENTS = 50, 16
"""Rows of the reference set for each component of a hidden vector, and most components."""


class Distances:
    """Compares a window of the newest rows with the training rows, column by column.

    Shares of missing values, of categories that were never seen, how often each category comes,
    and the mean of the hidden vector, where signals watch these. What numbers do is FIDI's.

    Args:
        package: The packaged model.
        settings: The size of a batch, batches in the window, and the seed.

    Attributes:
        limit: The distance above which rows differ: over all that is compared together, calm
            rows reach it once in `run_length_of` rows on average.
        window: Sums of the newest batches, of each thing compared.
    """

    def __init__(self, package: Package, settings: Settings) -> None:
        tuning = settings.tuning
        self._size, length = tuning.batch_size, tuning.fidi_window
        self.compared = list(_compared(package, self._size * length))
        self.limit = calibrate(
            self.compared, size=self._size, window=length,
            run_length=run_length_of(self._size, length), seed=settings.seed,
        )  # fmt: skip
        self.window: deque[list[list[float]]] = deque(maxlen=length)

    def update(self, rows: NDArray[np.float32]) -> None:
        """Take one batch of rows, ``(batch_size, features)``."""
        if self.compared:
            self.window.append([one.sums(rows).tolist() for one in self.compared])

    def scores(self) -> dict[str, float]:
        """Distances by name, the farthest first; empty until the window holds 3 batches."""
        if len(self.window) < min(FEWEST, self.window.maxlen or FEWEST):
            return {}
        rows = len(self.window) * self._size
        found = {
            one.name: float(one.distance(np.sum([batch[i] for batch in self.window], axis=0), rows))
            for i, one in enumerate(self.compared)
        }
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def state(self) -> list[list[list[float]]]:
        """As JSON values, for the checkpoint."""
        return list(self.window)

    def restore(self, state: list[list[list[float]]]) -> None:
        """Put back what `state` gave; an empty state is that of an earlier release."""
        self.window.extend(state)


def _compared(package: Package, rows: int) -> Iterator[Compared]:
    """What of a package's rows is compared, in a window of so many."""
    hidden = package.info.features[: package.info.hidden_columns]
    watched = [c.feature for c in package.info.calibration if c.feature in hidden and c.std > 0]
    if watched:
        places = [package.info.features.index(name) for name in watched]
        known = package.reference_rows[:, places].astype(np.float64)
        most = min(max(len(known) // ROWS_OF_COMPONENT, 1), MOST_COMPONENTS)
        yield Vector(HIDDEN, places, known, most)
    for one in package.info.calibration:
        if one.of is Aspect.MISSING:
            yield _missing(package, one)
        elif one.of is Aspect.UNSEEN:
            yield _unseen(package, one)
            yield _mix(package, one, rows)


def _missing(package: Package, known: FeatureStatistics) -> Share:
    place, (there, missing) = package.info.features.index(known.column), package.counts(known)
    return Share(known.feature, lambda rows: np.isnan(rows[:, place]), there, missing)


def _unseen(package: Package, known: FeatureStatistics) -> Share:
    """A category that came once was unseen until then, so there are about as many others left
    (Good 1953)."""
    place, counts = package.info.features.index(known.column), package.counts(known)
    levels, unseen = len(counts) - 2, counts[-2] + (counts[:-2] == 1).sum()
    return Share(
        known.feature, lambda rows: rows[:, place] >= levels, counts.sum() - unseen, unseen
    )


def _mix(package: Package, known: FeatureStatistics, rows: int) -> Mix:
    """The commonest categories each by itself, and all others together with the unseen ones."""
    counts = package.counts(known)
    levels, total = counts[:-1], max(counts[:-1].sum(), 1)
    own = np.argsort(-levels[:-1], kind="stable")[:MOST_CELLS]
    own = own[levels[own] * rows >= LEAST_EXPECTED * total]
    cells = np.full(len(levels), len(own))
    cells[own] = np.arange(len(own))
    seen = np.bincount(cells, weights=levels, minlength=len(own) + 1).astype(np.float64)
    place = package.info.features.index(known.column)
    share = float(total / max(counts.sum(), 1))
    return Mix(known.column, place, cells, seen + 1 / len(seen), share)
