"""Everybody who races, as they are at one moment, to be asked together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
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
    """

    def __init__(self, experts: Mapping[str, Expert], width: int, classes: int) -> None:
        self.experts = dict(experts)
        linear = {i: own for i, e in enumerate(experts.values()) if (own := e.linear()) is not None}
        self._places = torch.tensor(list(linear))
        self._linear = SideBySide(list(linear.values()), width, classes)
        self._others = {i: e for i, e in enumerate(experts.values()) if i not in linear}
        self._surrounded = {i: e for i, e in enumerate(experts.values()) if e.surrounded}

    def say(self, scaled: Tensor, odds: Tensor, context: Tensor | None = None) -> Tensor:
        """Log probabilities up to a constant of everybody, ``(experts, n, classes)``.

        Args:
            scaled: Hidden vectors as experts want them, ``(n, width)``.
            odds: The frozen model's centred log probabilities, ``(n, classes)``.
            context: What the rows around each were like, ``(n, inputs)``; what was last heard where
                it is not given.
        """
        out = odds.new_empty(len(self.experts), *odds.shape)
        out[self._places] = torch.from_numpy(self._linear(scaled, odds)).transpose(0, 1)
        for place, expert in self._others.items():
            out[place] = expert.ask(scaled, odds)
        if context is not None:
            for place, expert in self._surrounded.items():
                out[place] = expert.ask(scaled, odds, context)
        return out


@dataclass(frozen=True)
class Standing:
    """A race at one moment: who answers how, and who has how much to say."""

    panel: Panel
    shares: Tensor
    """Of each opinion, ``(opinions, names)``"""
    sharpness: list[int]
    """Place in the sharpnesses of each."""

    @property
    def context(self) -> Tensor | None:
        """What the newest rows were like, ``(inputs,)``; None where nobody wants to know."""
        return context_of(self.panel.experts)
