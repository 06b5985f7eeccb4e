"""Everybody who races, as they are at one moment, to be asked together."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.kinds.context import context_of
from bento_selfheal.experts.side_by_side import SideBySide


class Panel:
    """Experts that do not learn any more.

    Args:
        experts: Everybody by name.
        width: Width of the hidden vector.
        classes: Number of classes.

    Attributes:
        context: What the newest rows were like, ``(inputs,)``; None where nobody wants to know.
    """

    def __init__(self, experts: Mapping[str, Expert], width: int, classes: int) -> None:
        self.experts = dict(experts)
        self.context = context_of(experts.values())
        linear = {i: own for i, e in enumerate(experts.values()) if (own := e.linear()) is not None}
        self._places = list(linear)
        heard = None if self.context is None else self.context.numpy()
        self._linear = SideBySide(list(linear.values()), width, classes, heard)
        self._others = {i: e for i, e in enumerate(experts.values()) if i not in linear}

    def say(
        self, scaled: Tensor, odds: Tensor, context: Tensor | None = None
    ) -> NDArray[np.float32]:
        """Log probabilities up to a constant of everybody, ``(experts, n, classes)``.

        Args:
            scaled: Hidden vectors as experts want them, ``(n, width)``.
            odds: The frozen model's centred log probabilities, ``(n, classes)``.
            context: What the rows around each were like, ``(n, inputs)``; what was last heard where
                it is not given.
        """
        out = np.empty((len(self.experts), *odds.shape), dtype=np.float32)
        around = None if context is None else context.numpy()
        said = self._linear(scaled.numpy(), odds.numpy(), around)
        out[self._places] = said.swapaxes(0, 1)
        for place, expert in self._others.items():
            out[place] = expert.ask(scaled, odds).numpy()
        return out

    def in_context(self, context: Tensor) -> Panel:
        """The same experts, having heard that the newest rows are like this, ``(inputs,)``."""
        made = copy(self)
        made.context = context
        made.experts = {name: one.in_context(context) for name, one in self.experts.items()}
        made._linear = self._linear.in_context(context.numpy())
        return made


@dataclass(frozen=True)
class Standing:
    """A race at one moment: who answers how, and who has how much to say."""

    panel: Panel
    shares: NDArray[np.float64]
    """Of each opinion, ``(opinions, names)``"""
    sharpness: list[int]
    """Place in the sharpnesses of each."""

    @property
    def context(self) -> Tensor | None:
        """What the newest rows were like, ``(inputs,)``; None where nobody wants to know."""
        return self.panel.context
