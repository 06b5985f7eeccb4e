"""What of a package's inputs is looked at: columns, or the hidden vector of an image or text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.healing.causes.cells import (
    REFERENCE_ROWS,
    Codes,
    Counts,
    Numbers,
    TableCells,
    counts_in,
    gaps_in,
    training_counts,
)
from bento_selfheal.healing.drift.distance.distances import MOST_COMPONENTS, ROWS_OF_COMPONENT
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.counts import Aspect
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import unnamed_shares

ANSWER = -1
"""Stands for the model's answers where they are of all columns together."""
MOST_CLASSES = 8
"""Classes whose labels are compared."""
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Components:
    """The largest principal components of hidden vectors.

    Args:
        mean: Mean of the reference rows, ``(width,)``.
        axes: Directions, ``(width, components)``.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]

    @classmethod
    def of(cls, hidden: Rows) -> Components:
        """Of the hidden vectors of reference rows, ``(m, width)``."""
        mean = hidden.mean(axis=0, dtype=np.float64)
        fitted = hidden[:: -(-len(hidden) // 1000)] - mean
        _, spread, axes = np.linalg.svd(fitted, full_matrices=False)
        most = min(max(len(fitted) // ROWS_OF_COMPONENT, 1), MOST_COMPONENTS)
        kept = (spread > spread[0] * 1e-6) & (np.arange(len(spread)) < most)
        return cls(mean, axes[kept].T)

    def __call__(self, hidden: Rows) -> Rows:
        """Where hidden vectors ``(n, width)`` lie, ``(n, components)``."""
        return np.asarray((hidden - self.mean) @ self.axes, dtype=np.float32)


class Facets:
    """Cells of everything that may have moved.

    An input of a row is a column of its table, a named fact, or the image, text or tensor that a
    network was asked about. A column is one facet; of the others the principal components of the
    hidden vector are facets, and the answers, which depend on nothing else. Of a table the answers
    are facets that belong to no input.

    Args:
        package: The packaged model.

    Attributes:
        names: Names of the inputs.
        owner: Input of each facet, ``(facets,)``; `ANSWER` where it is of none.
        codes: Cells of the reference rows, ``(m, facets)``.
        counts: Known rows in each cell, ``(facets, WIDTH)``; of categories, training rows.
        gaps: Known rows with a value and without, ``(facets, 2)``.
        of_answers: The facets that are the model's answers.
        answers: What the frozen model says of the reference rows.
        labels: Their classes, ``(m,)``.
    """

    def __init__(self, package: Package) -> None:
        rows = package.reference_rows[:REFERENCE_ROWS]
        self.labels = package.reference_labels[: len(rows)]
        self.answers = package.baseline(rows)
        commonest = np.argsort(-np.bincount(self.labels.astype(np.int64)), kind="stable")
        self._classes = np.asarray([1]) if package.binary else commonest[:MOST_CLASSES]
        info, hidden = package.info, package.info.hidden_columns
        columns = info.columns or [Column(name=name) for name in info.features]
        self._table = TableCells.of(list(enumerate(columns))[hidden:], rows)
        self.names = [info.features[i] for i in self._table.places]
        own = "" if info.rows_hold_inputs or info.embedding is None else info.embedding.source.kind
        self._hidden = hidden if own else 0
        self._components = Components.of(rows[:, :hidden]) if own else None
        self._behind = Numbers.of(self._numbers_behind(rows, self.answers))
        self.owner = [*range(len(self.names))]
        behind = len(self._behind.low)
        if own:
            self.names.append(own if own not in self.names else f"{own} (input)")
        self.owner += [len(self.names) - 1 if own else ANSWER] * behind
        facets = len(self.owner)
        self.of_answers = [*range(facets - min(self.answers.ndim, 2), facets)]
        self._own: list[list[int]] = [[] for _ in self.names]
        for facet, one in enumerate(self.owner):
            if one != ANSWER:
                self._own[one].append(facet)
        self.codes = self.of(rows, self.answers)
        self.counts, self.gaps = self._known(package)

    def of(self, rows: Rows, answers: Rows) -> Codes:
        """Cells of rows ``(n, features)``, ``(n, facets)``.

        Args:
            rows: The rows.
            answers: What the frozen model says of them.
        """
        behind = self._behind.codes(self._numbers_behind(rows, answers))
        return np.concatenate([self._table.codes(rows), behind], axis=1)

    def facets_of(self, owner: int) -> list[int]:
        """The facets of an input."""
        return self._own[owner]

    def vectors(self, moved: Sequence[int]) -> list[list[int]]:
        """Facets of each input that moved and has several, without the answers."""
        owners = dict.fromkeys(self.owner[i] for i in moved)
        own = [[i for i in self._own[one] if i not in self.of_answers] for one in owners]
        return [facets for facets in own if len(facets) > 1]

    def missed(self, answers: Rows, labels: Rows) -> NDArray[np.float64]:
        """Whether the label is each class less its probability, of two classes the second alone,
        of many the commonest; and last, whether it is the likeliest class less the probability of
        that, ``(n, k)``: where classes take each other's place, each may stay as common."""
        of_classes = -unnamed_shares(answers, labels)
        likeliest = of_classes[np.arange(len(labels)), decide_classes(answers)]
        return np.column_stack([of_classes[:, self._classes], likeliest])

    def _numbers_behind(self, rows: Rows, answers: Rows) -> Rows:
        """Components of the hidden vector, the probability of one class or how sure the model is,
        and which class is likeliest, ``(n, k)``."""
        parts = [] if self._components is None else [self._components(rows[:, : self._hidden])]
        if answers.ndim == 1:
            parts.append(answers[:, None])
        else:
            likeliest = np.asarray(answers.argmax(axis=1), dtype=np.float32)
            parts += [answers.max(axis=1)[:, None], likeliest[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _known(self, package: Package) -> tuple[Counts, Counts]:
        """Rows in each cell and with gaps: of all training rows where the package knows them."""
        counts = counts_in(self.codes)
        gaps = gaps_in(counts)
        cells = {one.place: one.cells for one in self._table.categories}
        for known in package.info.calibration:
            if known.column not in self.names:
                continue
            own, trained = self.names.index(known.column), package.counts(known)
            if known.of is Aspect.MISSING:
                gaps[own] = trained
            elif known.of is Aspect.UNSEEN:
                place = package.info.features.index(known.column)
                counts[own] = training_counts(trained, cells[place])
        return counts, gaps
