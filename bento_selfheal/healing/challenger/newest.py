"""The newest rows that were answered, of which no label has come yet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.kinds.context import NEWEST
from bento_selfheal.packaging.package import Package

LEAST_SECONDS = 1.0
"""Between two refreshes, by the log's own times; each writes a snapshot."""


class NewestRows:
    """What experts hear of the time that they answer in, labels or none.

    Args:
        package: The packaged model, of which the scaled inputs are asked and nothing else.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        self._rows = np.zeros((0, len(package.info.features)), dtype=np.float32)
        self._unheard = False
        self._since, self._time, self._served_at = 0, 0.0, 0.0

    def take(self, rows: NDArray[np.float32], time: float) -> None:
        """Take rows ``(n, features)`` that were answered; none where nobody can hear of them."""
        if not self._package.inputs:
            return
        self._rows = np.concatenate([self._rows, rows[-NEWEST:]])[-NEWEST:]
        self._unheard = True
        self._since, self._time = self._since + len(rows), time

    @property
    def outdated(self) -> bool:
        """Whether what serves knows none of the newest rows, and has for a second."""
        waited = abs(self._time - self._served_at) >= LEAST_SECONDS  # clocks are set back
        return self._since >= NEWEST and waited

    def served(self) -> None:
        """What serves knows the newest rows."""
        self._since, self._served_at = 0, self._time

    def inputs(self) -> Tensor | None:
        """The scaled inputs of the newest rows, ``(n, inputs)``; None where none came since they
        were last asked for, where they are too few, or where the hidden vector has no inputs."""
        if not self._unheard or len(self._rows) < NEWEST:
            return None
        self._unheard = False
        return self._package.scaled_inputs(self._rows)

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        return {
            "newest": torch.from_numpy(self._rows.copy()),
            "unheard": self._unheard,
            "rows_since_served": self._since,
            "served_at": self._served_at,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave; earlier releases knew no rows."""
        if "newest" in state:
            self._rows, self._unheard = state["newest"].numpy(), state["unheard"]
        self._since = state.get("rows_since_served", 0)
        self._time = self._served_at = state.get("served_at", 0.0)
