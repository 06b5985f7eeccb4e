"""Everybody who is linear, asked in one product of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Waves = tuple[Tensor, Tensor]
"""Directions ``(width, terms)`` and phases ``(terms,)`` of cosines."""


@dataclass(frozen=True)
class Linear:
    """An answer that is linear in the hidden vector, or in waves over it, and in the frozen
    odds."""

    weight: Tensor
    """Of the hidden vector or of the waves, and of a one, ``(terms + 1, classes)``"""
    frozen: float = 0.0
    """Weight of the frozen odds"""
    waves: Waves | None = None
    """None where the weights are those of the hidden vector itself"""

    def times(self, factor: float) -> Linear:
        """The answer multiplied by a number."""
        return Linear(factor * self.weight, factor * self.frozen, self.waves)


class SideBySide:
    """Linear answers, computed together: for few rows, every call costs as much as another.

    Who sees the last columns of the hidden vector alone has weights of 0 for the others.

    Args:
        answers: The answers.
        width: Width of the hidden vector.
        classes: Number of classes.
    """

    def __init__(self, answers: Sequence[Linear], width: int, classes: int) -> None:
        self._shape = len(answers), classes
        frozen = [linear.frozen for linear in answers]
        self._frozen = np.asarray(frozen, dtype=np.float32).reshape(-1, 1)
        self._waves, places = _each_once([linear.waves for linear in answers])
        begins = np.cumsum([width, *(len(phases) for _, phases in self._waves)]).tolist()
        weight = np.zeros((begins[-1] + 1, *self._shape), dtype=np.float32)
        for i, (linear, place) in enumerate(zip(answers, places, strict=True)):
            own = linear.weight.numpy()
            terms = len(own) - 1
            begin = width - terms if place is None else begins[place]
            weight[begin : begin + terms, i] = own[:-1]
            weight[-1, i] = own[-1]
        flat = torch.from_numpy(weight.reshape(len(weight), -1))
        self._weight, self._constant = flat[:-1], flat[-1]

    def __call__(self, scaled: Tensor, odds: Tensor) -> NDArray[np.float32]:
        """Log probabilities up to a constant of each answer, ``(n, answers, classes)``.

        Args:
            scaled: Hidden vectors as experts want them, ``(n, width)``.
            odds: The frozen model's centred log probabilities, ``(n, classes)``.
        """
        waves = [
            torch.addmm(phases, scaled[:, scaled.shape[1] - len(directions) :], directions).cos()
            for directions, phases in self._waves
        ]
        terms = torch.cat([scaled, *waves], dim=1) if waves else scaled
        said = torch.addmm(self._constant, terms, self._weight).numpy()
        out: NDArray[np.float32] = said.reshape(len(said), *self._shape)
        out = out + self._frozen * odds.numpy()[:, np.newaxis]
        return out


def _each_once(all_waves: Sequence[Waves | None]) -> tuple[list[Waves], list[int | None]]:
    """The waves that differ, and the place of each answer's own among them."""
    waves, places = list[Waves](), list[int | None]()
    for own in all_waves:
        known = [i for i, there in enumerate(waves) if own and torch.equal(there[0], own[0])]
        places.append(known[0] if known else len(waves) if own else None)
        if own and not known:
            waves.append(own)
    return waves, places
