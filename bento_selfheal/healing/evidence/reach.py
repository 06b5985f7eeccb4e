"""How much a difference of losses counts where rows are chosen by what their labels can tell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ROWS, MOST = 100, 0.9
"""The newest rows, of which so many are not out of reach."""
SMALLEST = 1e-9


@dataclass
class Reach:
    """How far differences reach on the newest rows, each times the rows that it stands for.

    A bet can be the bolder, the smaller the largest difference is. Where a row's chance rises with
    the difference that its label can make, none is larger, times the rows that it stands for, than
    on a row of the largest chance: so much each may count. But two answers move apart while a label
    is waited for. So it counts no more than keeps nine in ten of the newest rows in bounds, which
    is known before the label is; and one beyond them as that of a challenger which is followed now
    and then only: less, whatever the label says.
    """

    newest: list[float] = field(default_factory=list)

    def scale(
        self,
        weights: NDArray[np.float64],
        likeliest: NDArray[np.float64],
        apart: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """What the difference on each newly labelled row counts, ``(n,)``; times it, it is in
        [-1, 1].

        Args:
            weights: Rows that each stands for, ``(n,)``.
            likeliest: Chance of the likeliest rows around each, ``(n,)``.
            apart: How far the losses of both answers can be apart, ``(n,)`` in [0, 1].
        """
        reached = np.maximum(weights * apart, SMALLEST)
        known = np.quantile(self.newest, MOST) if self.newest else SMALLEST
        self.newest = [*self.newest, *reached.tolist()][-ROWS:]
        return np.asarray(weights * np.minimum(np.minimum(likeliest, 1 / known), 1 / reached))
