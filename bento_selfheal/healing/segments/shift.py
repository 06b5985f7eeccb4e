"""How far a segment's share of the rows, and the answers in it, have moved since training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF_LIFE = 2000.0
"""Rows after which a row counts half."""
FEWEST = 50.0
"""Rows of a segment, here and in the reference set, from which on its answers are compared."""
TINY = 1e-12


class Shift:
    """Compares the newest rows of each segment with the reference set.

    A light signal, for people: it starts no heal. Of each segment it compares the share of all rows
    that are in it, and the share of each class among its answers, in standard errors of the
    difference; the larger one counts. Rows fade by half every 2,000 rows.

    Args:
        members: Which row of the reference set is in which segment, ``(m, segments)``.
        decided: What the packaged model decides for each of them, ``(m,)``.
        classes: Number of classes.
    """

    def __init__(
        self, members: NDArray[np.bool_], decided: NDArray[np.int64], classes: int
    ) -> None:
        self._classes = classes
        self._usual = self._count(members, decided)
        self._reference = len(members)
        self.counts = np.zeros_like(self._usual)
        """Faded rows of each segment by the class that was answered, ``(segments, classes)``."""
        self.rows = self.squares = 0.0
        """Sum of the weights of all rows, and of their squares."""

    def answered(self, members: NDArray[np.bool_], decided: NDArray[np.int64]) -> None:
        """Take rows that were answered: their segments ``(n, segments)`` and classes ``(n,)``."""
        fade = 0.5 ** (len(members) / HALF_LIFE)
        self.counts = self.counts * fade + self._count(members, decided)
        self.rows = self.rows * fade + len(members)
        self.squares = self.squares * fade**2 + len(members)

    def _count(self, members: NDArray[np.bool_], decided: NDArray[np.int64]) -> NDArray[np.float64]:
        each = np.eye(self._classes)[decided]
        return np.asarray(members.T.astype(np.float64) @ each)

    def by_segment(self) -> list[dict[str, Any]]:
        """Of each segment its share of the rows, now and usually, and how far it has moved."""
        now, usual = self.counts.sum(axis=1), self._usual.sum(axis=1)
        shares, before = now / max(self.rows, TINY), usual / max(self._reference, 1)
        moved = np.maximum(self._shares_moved(shares, before), self._answers_moved(now, usual))
        known = self.rows > 0
        return [
            {
                "share": float(share) if known else None,
                "usual_share": float(then),
                "drift": float(z) if known else None,
            }
            for share, then, z in zip(shares, before, moved, strict=True)
        ]

    @property
    def _worth(self) -> float:
        """Rows without fading that would be as certain, for each row that counts now."""
        return self.rows / max(self.squares, TINY)

    def _shares_moved(
        self, shares: NDArray[np.float64], before: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return _errors(shares, before, self.rows * self._worth, float(self._reference))

    def _answers_moved(
        self, now: NDArray[np.float64], usual: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        both = [c / np.maximum(c.sum(axis=1, keepdims=True), TINY)
                for c in (self.counts, self._usual)]  # fmt: skip
        rows = (now * self._worth)[:, None]
        moved = _errors(both[0], both[1], rows, usual[:, None]).max(axis=1)
        return np.where((rows[:, 0] >= FEWEST) & (usual >= FEWEST), moved, 0.0)

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"rows": self.rows, "squares": self.squares, "counts": self.counts.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.rows, self.squares = state["rows"], state["squares"]
        self.counts = np.asarray(state["counts"])


def _errors(
    shares: NDArray[np.float64], before: NDArray[np.float64],
    rows: float | NDArray[np.float64], reference: float | NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Distance of two shares in standard errors of their difference."""
    rows, reference = np.maximum(rows, 1.0), np.maximum(reference, 1.0)
    pooled = (shares * rows + before * reference) / (rows + reference)
    error = np.sqrt(np.maximum(pooled * (1 - pooled), 0.0) * (1 / rows + 1 / reference))
    return np.asarray(np.abs(shares - before) / np.maximum(error, 1e-9))
