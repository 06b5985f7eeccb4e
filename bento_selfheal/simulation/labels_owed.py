"""The labels of a stream that have not come yet, each as late as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.simulation.streams import Stream


class LabelsOwed:
    """Says which labels of a stream come when.

    Args:
        stream: The rows, and how late their labels come.
        delays: How many rows are predicted between each row and its label, ``(n,)``, where that
            differs from row to row.
    """

    def __init__(self, stream: Stream, delays: NDArray[np.int64] | None = None) -> None:
        places = np.arange(len(stream) * stream.batch)
        late = stream.delay if delays is None else delays[: len(places)]
        due = places + late
        self._order = np.argsort(due, kind="stable")
        self._due = due[self._order]
        self._batch, self._next = stream.batch, 0
        self._come: Counter[int] = Counter()

    def due(self, answered: int) -> Iterator[int]:
        """The places of rows whose labels come now that so many rows are answered."""
        while self._next < len(self._due) and self._due[self._next] < answered:
            place = int(self._order[self._next])
            self._next += 1
            yield place

    def is_last_of(self, number: int) -> bool:
        """Whether the label that came last is the last of its batch, which counts from 1; to be
        asked once for each label."""
        self._come[number] += 1
        done = self._come[number] == self._batch
        if done:
            del self._come[number]
        return done
