"""The bounded buffer of labelled rows, which heals train on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.healing.labels.join import JoinedRow
from bento_selfheal.healing.labels.labelled_rows import LabelledRows

Embed = Callable[[NDArray[np.float32]], Tensor]
Answer = Callable[[Tensor], Tensor]
COMMON = 0.75
"""Share from which on a class is so common that its older rows are thinned, not dropped."""
KEY_BYTES = 16
NEWEST = 4
"""One part in so many is never thinned, and goes when the oldest rows are dropped."""
COLUMNS = (
    "_features", "_hidden", "_frozen", "_labels", "_weights", "_offsets", "_asked", "_codes",
    "_repeats",
)  # fmt: skip
"""What is kept of each row."""


class Column:
    """An array that grows at its end, at a constant cost a row.

    Views handed out stay what they are: rows are written behind them, never into them.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self._kept = rows
        self._end = len(rows)

    def append(self, fresh: NDArray[Any]) -> None:
        """Take rows, ``(n, ...)``."""
        if self._end + len(fresh) > len(self._kept):
            old = self.rows if self._end else fresh[:0]  # the first rows say how wide they are
            self._kept = np.empty((2 * (len(old) + len(fresh)), *old.shape[1:]), old.dtype)
            self._kept[: len(old)] = old
        self._kept[self._end : self._end + len(fresh)] = fresh
        self._end += len(fresh)

    @property
    def rows(self) -> NDArray[Any]:
        """What is there, ``(n, ...)``."""
        return self._kept[: self._end]


class Buffer:
    """Labelled rows, oldest first: the newest, and of a rare class all that there is room for.

    When it is full, the oldest quarter goes; but where one class has more than three quarters
    of the rows, every second of its older ones goes, and the next one stands for both.

    Args:
        limit: Rows kept at most.
        width: Number of features.
        embed: The frozen backbone, ``(n, features)`` to ``(n, hidden)``.
        answer: The frozen model on hidden vectors, ``(n, hidden)`` to ``(n,)`` or
            ``(n, classes)``; each row goes through both once.
    """

    def __init__(self, limit: int, width: int, embed: Embed, answer: Answer) -> None:
        self._limit = limit
        self._embed, self._answer = embed, answer
        self.keys: list[bytes] = []
        self.sources: list[str | None] = []
        nothing = np.zeros(0, dtype=np.float32)
        places = np.zeros(0, dtype=np.int64)
        self._fill(nothing.reshape(0, width), nothing, nothing, places, places)

    def __len__(self) -> int:
        return len(self.keys)

    def extend(
        self,
        rows: list[JoinedRow],
        hidden: Tensor | None = None,
        frozen: NDArray[np.float32] | None = None,
    ) -> None:
        """Take newly labelled rows; others go where there is no room.

        Args:
            rows: The rows.
            hidden: Their hidden vectors, ``(n, hidden)``, where they are known already.
            frozen: What the frozen model says of them, where it is known already.
        """
        if not rows:
            return
        fresh = np.stack([row.features for row in rows]).astype(np.float32)
        first = self.next_offset
        self._features.append(fresh)
        hidden = self._embed(fresh) if hidden is None else hidden
        self._hidden.append(hidden.numpy())
        self._frozen.append(self._answer(hidden).numpy() if frozen is None else frozen)
        self._labels.append(np.asarray([row.label for row in rows], dtype=np.float32))
        # Whatever a row stands for in figures: it was chosen by its features, which training knows.
        self._weights.append(np.ones(len(rows), dtype=np.float32))
        self._offsets.append(np.arange(first, first + len(rows)))
        self._asked.append(np.asarray([row.asked for row in rows], dtype=np.int64))
        codes = _codes(fresh)
        known = (codes[:, np.newaxis] == self._codes.rows).any(axis=1)  # few rows: no need to sort
        self._repeats.append(known | _again(codes))
        self._codes.append(codes)
        self.keys += [row.key for row in rows]
        self.sources += [row.source for row in rows]
        if len(self) > self._limit:
            self._make_room()

    def correct(self, key: bytes, label: int, source: str | None) -> bool:
        """Replace the label of a row that is still here; False when it is not.

        The row counts as labelled by ``source`` from now on, so that `forget` finds it.
        """
        if key not in self.keys:
            return False
        offset, labels = self.keys.index(key), self.labels.copy()
        labels[offset] = label
        self._labels = Column(labels)
        self.sources[offset] = source
        return True

    def drop(self, key: bytes) -> bool:
        """Remove a row; False when it is not here."""
        if key not in self.keys:
            return False
        self._keep(np.asarray([other != key for other in self.keys], dtype=bool))
        return True

    def forget(self, source: str) -> int:
        """Remove every row that a source labelled; returns how many."""
        stay = np.asarray([name != source for name in self.sources], dtype=bool)
        gone = len(self) - int(stay.sum())
        if gone:
            self._keep(stay)
        return gone

    def rows(self) -> LabelledRows:
        """What a heal trains on."""
        ages = self.next_offset - 1 - self.offsets
        hidden, frozen = (torch.from_numpy(c.rows) for c in (self._hidden, self._frozen))
        return LabelledRows(
            self.features, self.labels, hidden, self.weights, ages, self._asked.rows, frozen,
            self._repeats.rows,
        )  # fmt: skip

    def since(self, offset: int) -> LabelledRows:
        """The rows from this offset on, each as often as it stands for rows of its class."""
        fresh = self.rows().tail(int((self.offsets >= offset).sum()))
        return fresh.repeated()

    @property
    def next_offset(self) -> int:
        """Place of the next label."""
        return int(self.offsets[-1]) + 1 if len(self.offsets) else 0

    @property
    def features(self) -> NDArray[np.float32]:
        """``(n, features)``"""
        return self._features.rows

    @property
    def labels(self) -> NDArray[np.float32]:
        """``(n,)``, indices of classes"""
        return self._labels.rows

    @property
    def weights(self) -> NDArray[np.float32]:
        """How many rows of its class each stands for, ``(n,)``."""
        return self._weights.rows

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Number of labels that came before each, ``(n,)``."""
        return self._offsets.rows

    @property
    def asked(self) -> NDArray[np.int64]:
        """Place of each row's prediction in the log, ``(n,)``; -1 where there was none."""
        return self._asked.rows

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        keys = np.frombuffer(b"".join(self.keys), dtype=np.uint8)
        return {
            "features": _tensor(self.features),
            "labels": _tensor(self.labels),
            "weights": _tensor(self.weights),
            "places": _tensor(self.offsets),
            "asked": _tensor(self._asked.rows),
            "frozen": _tensor(self._frozen.rows),
            "keys": _tensor(keys.reshape(len(self.keys), KEY_BYTES)),
            # Most rows come from one source after the other.
            "sources": [(name, len(list(group))) for name, group in groupby(self.sources)],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.keys = [row.tobytes() for row in state["keys"].numpy()]
        self.sources = [name for name, count in state["sources"] for _ in range(count)]
        unknown = torch.full((len(self),), -1)  # a checkpoint of an earlier release
        columns = {"asked": unknown, **state}
        names = ("features", "labels", "weights", "places", "asked")
        self._fill(*(columns[name].numpy() for name in names))
        if "frozen" in state:  # as they were said, in batches of another size
            self._frozen = Column(state["frozen"].numpy())

    def _fill(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.float32],
        weights: NDArray[np.float32],
        offsets: NDArray[np.int64],
        asked: NDArray[np.int64],
    ) -> None:
        self._features, self._labels = Column(features), Column(labels)
        self._weights, self._offsets = Column(weights), Column(offsets)
        self._asked = Column(asked)
        codes = _codes(features)
        self._codes, self._repeats = Column(codes), Column(_again(codes))
        # No model is asked for 0 rows: not every one can answer that.
        nothing = torch.zeros(0)
        hidden = self._embed(features) if len(features) else nothing
        frozen = self._answer(hidden) if len(features) else nothing
        self._hidden, self._frozen = Column(hidden.numpy()), Column(frozen.numpy())

    def _make_room(self) -> None:
        labels, newest = self.labels.astype(np.int64), self._limit // NEWEST
        counts = np.bincount(labels)
        common = int(counts.argmax())
        stay = np.ones(len(self), dtype=bool)
        if counts[common] < COMMON * len(self):
            stay[: len(self) - self._limit + newest] = False
        else:
            older = np.flatnonzero(labels[:-newest] == common)
            gone, kept = older[:-1:2], older[1::2]
            stay[gone] = False
            weights = self.weights.copy()
            weights[kept] += weights[gone]
            self._weights = Column(weights)
        self._keep(stay)

    def _keep(self, stay: NDArray[np.bool_]) -> None:
        """Let the other rows go."""
        for name in COLUMNS:
            setattr(self, name, Column(getattr(self, name).rows[stay]))
        kept = np.flatnonzero(stay).tolist()
        self.keys = [self.keys[i] for i in kept]
        self.sources = [self.sources[i] for i in kept]


def _codes(features: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A number for each row, ``(n,)``, the same for the same row and hardly for any other."""
    bits = np.ascontiguousarray(features).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, features.shape[1], dtype=np.uint64)
    return np.asarray((bits * factors).sum(axis=1, dtype=np.uint64))


def _again(codes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether each stands there before, ``(n,)``."""
    again = np.ones(len(codes), dtype=bool)
    again[np.unique(codes, return_index=True)[1]] = False
    return again


def _tensor(rows: NDArray[Any]) -> Tensor:
    return torch.from_numpy(rows.copy())
