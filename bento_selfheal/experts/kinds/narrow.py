"""An expert whose cost does not grow with the width of the hidden vector."""

from __future__ import annotations

import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert

WIDEST, NARROW = 640, 256
"""Widths of the hidden vector and its projection, where learning costs their cube."""


class NarrowExpert(Expert):
    """Sees a wide hidden vector through a random projection, which keeps distances (Johnson and
    Lindenstrauss 1984), and one that is not wide as it is.

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        widest: Width up to which the hidden vector is seen as it is.
        narrow: Width of the projection.
        seed: Of the projection.

    Attributes:
        seen: Width of what it sees.
    """

    constant = frozenset({"projection"})
    projection: Tensor

    def __init__(self, width: int, classes: int, *, widest: int, narrow: int, seed: int) -> None:
        super().__init__(width, classes)
        self._projects = width > widest
        self.seen = narrow if self._projects else width
        if self._projects:
            draw = torch.Generator().manual_seed(seed)
            projection = torch.randn(width, narrow, generator=draw) / narrow**0.5
            self.keep("projection", projection)

    def see(self, hidden: Tensor) -> Tensor:
        """What it sees of hidden vectors, ``(n, seen)``."""
        return hidden @ self.projection if self._projects else hidden

    def widen(self, weight: Tensor) -> Tensor:
        """Weights of the hidden vector itself, from those of what it sees and of a one."""
        if not self._projects:
            return weight
        return torch.cat([self.projection @ weight[:-1], weight[-1:]])
