"""The bounded buffer of the newest labelled rows, which heals train on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .heal import LabelledRows
from .join import JoinedRow


class Buffer:
    """Newest labelled rows, oldest first.

    Args:
        limit: Rows kept.
        width: Number of features.
    """

    def __init__(self, limit: int, width: int) -> None:
        self._limit = limit
        self.features: NDArray[np.float32] = np.zeros((0, width), dtype=np.float32)
        self.labels: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self.keys: list[bytes] = []

    def __len__(self) -> int:
        return len(self.keys)

    def extend(self, rows: list[JoinedRow]) -> None:
        """Take newly labelled rows; the oldest beyond the limit go."""
        fresh = np.stack([row.features for row in rows]).astype(np.float32)
        labels = np.asarray([row.label for row in rows], dtype=np.float32)
        self.features = np.concatenate([self.features, fresh])[-self._limit :]
        self.labels = np.concatenate([self.labels, labels])[-self._limit :]
        self.keys = (self.keys + [row.key for row in rows])[-self._limit :]

    def correct(self, key: bytes, label: int) -> bool:
        """Replace the label of a row that is still here; False when it is not."""
        if key not in self.keys:
            return False
        # Replaced, not changed in place: the training in progress may still read the old one.
        labels = self.labels.copy()
        labels[self.keys.index(key)] = label
        self.labels = labels
        return True

    def rows(self) -> LabelledRows:
        """What a heal trains on."""
        return LabelledRows(self.features, self.labels)

    def restore(
        self, features: NDArray[np.float32], labels: NDArray[np.float32], keys: list[bytes]
    ) -> None:
        """Put rows back from a checkpoint."""
        self.features, self.labels, self.keys = features, labels, keys
