"""Ridge regression that knows what the rows around a row were like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.kinds.ridge import RidgeExpert
from bento_selfheal.experts.side_by_side import Linear

NEWEST = 50
"""Rows whose middle is the context: fewer are noise, more are the past."""


class ContextExpert(RidgeExpert):
    """Sees how far a row is from the middle of the newest rows, for which no label is needed.

    Where a sensor's offset wanders, only that distance still means what it did; batch
    normalisation that is adapted to new rows (Li et al. 2016) rests on the same. Where the share of
    a class moves, the middle shows it long before the labels do. Beside the row itself it shifts
    the odds, as the correction by the moved share would (Saerens et al. 2002).

    Args:
        width: Width of what it sees of the hidden vector.
        classes: Number of classes.
        half_life: Labels after which a label counts half.
        seed: Of the random features.
        features: Number of random features; 0 for the distance, or the row and the distance,
            themselves.
        apart: Whether it sees the distance alone, else the row as well.

    Attributes:
        context: The middle of the newest rows, ``(width,)``.
    """

    context: Tensor

    def __init__(
        self,
        width: int,
        classes: int,
        *,
        half_life: float,
        seed: int = 0,
        features: int = 0,
        apart: bool = False,
    ) -> None:
        super().__init__(
            width if apart else 2 * width, classes,
            half_life=half_life, seed=seed, features=features,
        )  # fmt: skip
        self.width, self.apart = width, apart
        self.keep("context", torch.zeros(width))

    def view(self, scaled: Tensor, context: Tensor | None = None) -> Tensor:
        """What it sees of whole hidden vectors, and behind it what the rows around each were like
        where that is not what they are like now; ``(n, width)`` or ``(n, 2 * width)``."""
        seen = super().view(scaled)
        return seen if context is None else torch.cat([seen, context], dim=1)

    def surround(self, scaled: Tensor) -> None:
        """The middle of the newest rows is the context from now on."""
        self.context = middle(self.view(scaled))

    def in_context(self, context: Tensor) -> ContextExpert:
        """A copy that answers in this context, ``(width,)``."""
        made = cast(ContextExpert, self.answering())
        made.context = context
        return made

    def linear(self) -> Linear:
        """Its weights of the row and of the context behind it."""
        told = super().linear()
        if told.waves is None:
            weight = np.concatenate([self._apart(told.weight[:-1]), told.weight[-1:]])
            return Linear(weight, surrounded=True)
        directions, phases = told.waves
        return Linear(told.weight, waves=(self._apart(directions), phases), surrounded=True)

    def _apart(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weights of the row and of the context ``(2 * width, columns)``, from those of what it
        sees: the row is a part of its distance, too."""
        distance = weight[-self.width :]
        row = distance if self.apart else weight[: self.width] + distance
        return np.concatenate([row, -distance])

    def _terms(self, hidden: Tensor) -> NDArray[np.float32]:
        row, context = hidden[:, : self.width], self.context
        if hidden.shape[1] > self.width:
            context = hidden[:, self.width :]
        apart = row - context
        return super()._terms(apart if self.apart else torch.cat([row, apart], dim=1))


def middle(rows: Tensor) -> Tensor:
    """Mean of each column without its lowest and its highest tenth, ``(columns,)``: a few strange
    rows, or whoever sends them, must not move the context of all others."""
    out = len(rows) // 10
    return rows.sort(dim=0).values[out : len(rows) - out].mean(dim=0)


def before_each(rows: Tensor, together: int) -> Tensor:
    """The context of each of rows that were asked one after the other, ``(n, columns)``.

    Args:
        rows: The rows, ``(n, columns)``.
        together: Rows that have one context, of those before them; the first have their own.
    """
    if not len(rows):
        return rows
    places = range(0, len(rows), together)
    middles = [middle(rows[max(at - NEWEST, 0) : at or together]) for at in places]
    return torch.stack(middles).repeat_interleave(together, dim=0)[: len(rows)]


def context_of(experts: Iterable[Expert]) -> Tensor | None:
    """What the newest rows are like, as the experts that want to know have all heard it."""
    heard = (one.context for one in experts if isinstance(one, ContextExpert))
    return next(heard, None)
