"""What healing gained on the newest labelled rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.healing.labels.buffer import KEY_BYTES
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.scoring.losses import brier


class Gains:
    """Brier score of the frozen model less that of what was served, by row.

    Args:
        limit: Rows kept, the newest.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gains: OrderedDict[bytes, float] = OrderedDict()

    def learn(self, batch: LabelledBatch) -> None:
        """Take a labelled batch."""
        frozen, served = brier(batch.baseline, batch.labels), brier(batch.served, batch.labels)
        for row, gain in zip(batch.rows, (frozen - served).tolist(), strict=True):
            self._gains[row.key] = gain
        while len(self._gains) > self._limit:
            self._gains.popitem(last=False)

    def of(self, keys: Iterable[bytes]) -> NDArray[np.float64]:
        """Of rows by their keys, NaN where it is not known."""
        return np.asarray([self._gains.get(key, np.nan) for key in keys])

    def state(self) -> dict[str, Any]:
        """As tensors, for the checkpoint."""
        keys = np.frombuffer(b"".join(self._gains), dtype=np.uint8).reshape(-1, KEY_BYTES)
        gains = np.asarray([*self._gains.values()], dtype=np.float64)
        return {"gain_keys": torch.from_numpy(keys.copy()), "gains": torch.from_numpy(gains)}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        keys = [key.tobytes() for key in state["gain_keys"].numpy()]
        self._gains = OrderedDict(zip(keys, state["gains"].tolist(), strict=True))
