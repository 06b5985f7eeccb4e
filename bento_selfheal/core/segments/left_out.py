"""Rows that a healed model leaves to the packaged one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEFT_OUT = "left_out"
"""The name of its tensor among those of an adapter."""


class LeftOut(Protocol):
    """The segments in which a healed model answers as the packaged model does."""

    @property
    def state(self) -> Tensor:
        """What they are, as bytes."""

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows ``(n, features)`` are in one of them, ``(n,)``."""


def leave_out(said: Tensor, frozen: Tensor, away: NDArray[np.bool_]) -> Tensor:
    """What a model says, and what the packaged one says of the rows that are left to it.

    Args:
        said: Its probabilities, ``(n,)`` or ``(n, classes)``.
        frozen: Those of the packaged model, in the same shape.
        away: The rows that are left to it, ``(n,)``.
    """
    where = torch.from_numpy(away).to(said.device)
    return torch.where(where if said.ndim == 1 else where[:, None], frozen, said)
