"""Everybody who is linear, asked in one product of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Waves = tuple[Array, Array]
"""Directions ``(columns, terms)`` and phases ``(terms,)`` of cosines."""


@dataclass(frozen=True)
class Linear:
    """An answer that is linear in the hidden vector, or in waves over it, and in the frozen
    odds."""

    weight: Array
    """Of the hidden vector or of the waves, and of a one, ``(terms + 1, classes)``"""
    frozen: float = 0.0
    """Weight of the frozen odds"""
    waves: Waves | None = None
    """None where the weights are those of the hidden vector itself"""
    surrounded: bool = False
    """Whether what the rows around a row are like stands behind the hidden vector"""


class SideBySide:
    """Linear answers, computed together: for few rows, every call costs as much as another.

    Who sees the last columns of the hidden vector alone has weights of 0 for the others.

    Args:
        answers: The answers.
        width: Width of the hidden vector.
        classes: Number of classes.
        heard: What the newest rows are like, ``(inputs,)``; None where nobody wants to know.
    """

    def __init__(
        self, answers: Sequence[Linear], width: int, classes: int, heard: Array | None
    ) -> None:
        self._shape = len(answers), classes
        self._width, self._heard = width, heard
        self._known = width + (0 if heard is None else len(heard))
        frozen = [linear.frozen for linear in answers]
        self._frozen = np.asarray(frozen, dtype=np.float32).reshape(-1, 1)
        self._waves, places = _each_once(answers)
        terms = [len(phases) for _, (_, phases) in self._waves]
        self._begins = np.cumsum([self._known, *terms]).tolist()
        weight = np.zeros((self._begins[-1] + 1, *self._shape), dtype=np.float32)
        for i, (linear, place) in enumerate(zip(answers, places, strict=True)):
            count = len(linear.weight) - 1
            begin = self._end(linear.surrounded) - count if place is None else self._begins[place]
            weight[begin : begin + count, i] = linear.weight[:-1]
            weight[-1, i] = linear.weight[-1]
        flat = weight.reshape(len(weight), -1)
        self._weight, self._constant = flat[:-1], flat[-1]

    def _end(self, surrounded: bool) -> int:
        """Where the columns end that an answer sees."""
        return self._known if surrounded else self._width

    def __call__(self, scaled: Array, odds: Array, context: Array | None = None) -> Array:
        """Log probabilities up to a constant of each answer, ``(n, answers, classes)``.

        Args:
            scaled: Hidden vectors as experts want them, ``(n, width)``.
            odds: The frozen model's centred log probabilities, ``(n, classes)``.
            context: What the rows around each were like, ``(n, inputs)``; what was last heard where
                it is not given.
        """
        terms = np.empty((len(scaled), len(self._weight)), dtype=np.float32)
        terms[:, : self._width] = scaled
        if self._heard is not None:
            terms[:, self._width : self._known] = self._heard if context is None else context
        for begin, (surrounded, (directions, phases)) in zip(
            self._begins, self._waves, strict=False
        ):
            end = self._end(surrounded)
            angles = terms[:, end - len(directions) : end] @ directions + phases
            np.cos(angles, out=terms[:, begin : begin + len(phases)])
        said = (terms @ self._weight + self._constant).reshape(len(terms), *self._shape)
        out: Array = said + self._frozen * odds[:, np.newaxis]
        return out

    def in_context(self, heard: Array) -> SideBySide:
        """The same answers where the newest rows are like this."""
        made = copy(self)
        made._heard = None if self._heard is None else heard
        return made


def _each_once(answers: Sequence[Linear]) -> tuple[list[tuple[bool, Waves]], list[int | None]]:
    """The waves that differ, with whether they are over the context as well, and the place of each
    answer's own among them."""
    waves, places = list[tuple[bool, Waves]](), list[int | None]()
    for linear in answers:
        if linear.waves is None:
            places.append(None)
            continue
        own = linear.surrounded, linear.waves
        known = [i for i, one in enumerate(waves) if _same(one, own)]
        places.append(known[0] if known else len(waves))
        if not known:
            waves.append(own)
    return waves, places


def _same(one: tuple[bool, Waves], other: tuple[bool, Waves]) -> bool:
    return one[0] == other[0] and np.array_equal(one[1][0], other[1][0])
