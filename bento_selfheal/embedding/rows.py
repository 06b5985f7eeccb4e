"""Inputs that are rows of a table, for a network of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.embedding.source import Source


class TableRows(Source):
    """Rows of numbers, or of codes where the columns have types."""

    kind: Literal["row"] = "row"

    def read(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """The row, which was read by its columns."""
        return value

    def gather(self, inputs: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        """The rows, ``(n, features)``; a copy, which the network may change."""
        return torch.from_numpy(np.array(inputs, dtype=np.float32))
