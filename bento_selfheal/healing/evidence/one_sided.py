"""Sees that labels come for one class only, and so prove nothing."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.unreported import Unreported
from bento_selfheal.packaging.package import Package

MOST_LABELS, FEWEST_LABELS = 1000, 25
LOOKED_FOR = 20.0
"""Of the newest labels, as many are looked at as should hold so many of other classes."""
SURPRISING = 6.0
"""Where so many are expected, chance leaves all of them out once in 400 times."""
FEW = 0.1
"""Where labels of other classes are fewer than this part of what is expected, they are as good as
none."""
ROWS = 100_000.0
"""Rows after which what was answered counts half: a label of a nightly file must find its row."""
ANSWERED, LABELLED = range(2)
KNOWN = 5
"""Labels of other classes from which on their share among all labels says how rare they are."""
MOST_ROWS = 0.5
"""Share of rows from which on labels cannot be a choice of one class."""
UNLABELLED = 0.2
"""Share of rows without a label up to which a class is missing among labels for want of rows."""
RECENT_ROWS = 2000.0
"""Rows after which what came counts half for that: a report of one class may end at any time."""


class OneSided:
    """Compares the classes of the newest labels with those that rows should have.

    Where only frauds are reported, a model that calls every row a fraud has no loss at all. Such
    labels are told from a class that is rare by three shares of the other classes: in the reference
    set, by what was answered to all rows, and among all labels so far. The smallest of them counts.

    Where nearly all rows have their label, of late as before, a class that is missing has not come:
    rows of one class often follow each other. Labels that most rows have are no choice of anybody:
    a class that is missing among them comes seldom, and it is waited for. Otherwise the labels may
    have been chosen, and where they are of a class that few rows should have, some strays of the
    others make no difference.

    Args:
        package: The packaged model.
        unreported: The setting that gives rows without a label a class.

    Attributes:
        reason: What is missing; empty while nothing is.
    """

    def __init__(self, package: Package, unreported: Unreported | None) -> None:
        self._classes = package.info.classes
        self._setting = unreported
        counts = self._count(package.reference_labels)
        self._reference = counts / max(counts.sum(), 1.0)
        self._newest: deque[int] = deque(maxlen=MOST_LABELS)
        self._answered = np.zeros(len(self._classes))
        self._labelled = 0.0
        self._recent = np.zeros(2)
        self._ever = np.zeros(len(self._classes))
        self.reason = ""

    def _count(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(labels.astype(np.int64), minlength=len(self._classes)).astype(np.float64)

    def answered(self, probabilities: NDArray[np.float32]) -> None:
        """Take what was answered to rows, ``(n,)`` or ``(n, classes)``."""
        said = probabilities.astype(np.float64)
        shares = said.sum(axis=0)
        if said.ndim == 1:
            shares = np.asarray([len(said) - shares, shares])
        fade = 0.5 ** (len(said) / ROWS)
        self._answered = self._answered * fade + shares
        self._labelled *= fade
        self._recent *= 0.5 ** (len(said) / RECENT_ROWS)
        self._recent[ANSWERED] += len(said)

    def labelled(self, labels: NDArray[np.float32]) -> dict[str, Any]:
        """Take newly labelled rows, indices of classes ``(n,)``.

        Returns:
            The detail of an event when labels begin to be of one class only, else an empty one.
        """
        before = self.reason
        self._newest.extend(labels.astype(np.int64).tolist())
        self._labelled += len(labels)
        self._recent[LABELLED] += len(labels)
        self._ever += self._count(labels)
        self.reason = self._why()
        return {"reason": self.reason} if self.reason and not before else {}

    @property
    def chosen(self) -> bool:
        """Whether the labels may be of rows that somebody chose: most rows have none."""
        return self._labelled < MOST_ROWS * float(self._answered.sum())

    def _complete(self, others: float) -> bool:
        """Whether nearly all rows have their label, of late as before: far fewer lack it than a
        share of others would be."""
        most = self._labelled, self._recent[LABELLED]
        rows = self._answered.sum(), self._recent[ANSWERED]
        needed = 1 - min(UNLABELLED, others / 2)
        return all(m >= needed * n for m, n in zip(most, rows, strict=True))

    @property
    def holds(self) -> bool:
        """Whether the newest labels are no evidence of anything: of one class, and chosen."""
        return bool(self.reason) and self.chosen

    @property
    def objection(self) -> str:
        """Why nothing may be promoted on these labels; empty when it may."""
        if self.reason or np.count_nonzero(self._ever) > 1:
            return self.reason
        return self._words(int(self._ever.argmax()), f"all {int(self._ever.sum())} labels so far")

    def _why(self) -> str:
        newest = np.asarray(self._newest)
        only = int(self._count(newest[-FEWEST_LABELS:]).argmax())
        others = min(1 - self._reference[only], self._answered_others(only))
        if self._complete(others):
            return ""
        looked = newest[-int(np.clip(LOOKED_FOR / max(others, 1e-9), FEWEST_LABELS, MOST_LABELS)) :]
        found = int((looked != only).sum())
        if self.chosen and others > 1 / 2:
            expected = others * len(looked)
            one_sided = found < FEW * expected
        else:
            expected = min(others, self._known_others(only)) * len(looked)
            one_sided = found == 0
        if expected < SURPRISING or not one_sided:
            return ""
        return self._words(
            only,
            f"{len(looked) - found} of the newest {len(looked)} labels",
            f", where {expected:.0f} of others are expected",
        )

    def _answered_others(self, only: int) -> float:
        """Share of the other classes by what was answered to all rows."""
        rows = float(self._answered.sum())
        return 1 - float(self._answered[only]) / rows if rows else 1.0

    def _known_others(self, only: int) -> float:
        """Share of the other classes among all labels; 1 while there are too few to tell."""
        total = float(self._ever.sum())
        others = total - float(self._ever[only])
        return others / total if others >= KNOWN else 1.0

    def _words(self, only: int, labels: str, expected: str = "") -> str:
        name = self._classes[only]
        if self._setting is None:
            what = (
                "set `unreported` if rows of the other classes are never reported; otherwise their "
                "labels are waited for"
            )
        else:
            what = "labels of the other classes are waited for"
        return f"only class {name} is labelled, {labels}{expected}: {what}"

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "newest": list(self._newest),
            "answered": self._answered.tolist(),
            "labelled": self._labelled,
            "recent": self._recent.tolist(),
            "ever": self._ever.tolist(),
            "reason": self.reason,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self._newest.extend(state["newest"])
        self._answered, self._ever = np.asarray(state["answered"]), np.asarray(state["ever"])
        self._labelled, self.reason = state["labelled"], state["reason"]
        self._recent = np.asarray(state.get("recent", (0.0, 0.0)))  # earlier releases knew none
