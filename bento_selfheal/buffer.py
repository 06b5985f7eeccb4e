"""The bounded buffer of the newest labelled rows, which heals train on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .heal import LabelledRows
from .join import JoinedRow

Embed = Callable[[NDArray[np.float32]], Tensor]


class Buffer:
    """Newest labelled rows, oldest first.

    Args:
        limit: Rows kept.
        width: Number of features.
        embed: The frozen backbone, ``(n, features)`` to ``(n, hidden)``; each row goes
            through it once.
    """

    def __init__(self, limit: int, width: int, embed: Embed) -> None:
        self._limit = limit
        self._embed = embed
        self.features: NDArray[np.float32] = np.zeros((0, width), dtype=np.float32)
        self.hidden: Tensor = embed(self.features)
        self.labels: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.keys: list[bytes] = []
        self.sources: list[str | None] = []

    def __len__(self) -> int:
        return len(self.keys)

    def extend(self, rows: list[JoinedRow]) -> None:
        """Take newly labelled rows; the oldest beyond the limit go."""
        if not rows:
            return
        fresh = np.stack([row.features for row in rows]).astype(np.float32)
        labels = np.asarray([row.label for row in rows], dtype=np.float32)
        self.features = np.concatenate([self.features, fresh])[-self._limit :]
        self.hidden = torch.cat([self.hidden, self._embed(fresh)])[-self._limit :]
        self.labels = np.concatenate([self.labels, labels])[-self._limit :]
        self.keys = (self.keys + [row.key for row in rows])[-self._limit :]
        self.sources = (self.sources + [row.source for row in rows])[-self._limit :]

    def correct(self, key: bytes, label: int) -> bool:
        """Replace the label of a row that is still here; False when it is not."""
        if key not in self.keys:
            return False
        # Replaced, not changed in place: the training in progress may still read the old one.
        labels = self.labels.copy()
        labels[self.keys.index(key)] = label
        self.labels = labels
        return True

    def forget(self, source: str) -> int:
        """Remove every row that a source labelled; returns how many."""
        stay = [i for i, name in enumerate(self.sources) if name != source]
        gone = len(self) - len(stay)
        if gone:
            self.restore(
                self.features[stay], self.labels[stay],
                [self.keys[i] for i in stay], [self.sources[i] for i in stay],
            )  # fmt: skip
        return gone

    def rows(self) -> LabelledRows:
        """What a heal trains on."""
        return LabelledRows(self.features, self.labels, self.hidden)

    def restore(
        self,
        features: NDArray[np.float32],
        labels: NDArray[np.float32],
        keys: list[bytes],
        sources: list[str | None],
    ) -> None:
        """Put rows back from a checkpoint."""
        self.features, self.labels, self.keys, self.sources = features, labels, keys, sources
        self.hidden = self._embed(features)
