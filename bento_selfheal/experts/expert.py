"""What an expert is: one way to answer from what the frozen backbone says, quick to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.side_by_side import Linear


class Expert(ABC):
    """A small model over the frozen hidden vector and the frozen model's log odds.

    It answers from its buffers, which are all that a snapshot keeps of it; what it needs to learn
    on beside them is in `memory`. It learns on the CPU, a few labels at a time, and the same labels
    in the same order give the same buffers. For so few rows a call of torch takes several times
    longer than one of NumPy, and an attribute of its modules longer than either: it is none.

    Args:
        width: How many of the hidden vector's columns it sees: all, or the last ones.
        classes: Number of classes, two or more.

    Attributes:
        growing: Buffers that have a row per label kept, and so any length.
        constant: Buffers that learning does not change.
    """

    growing: frozenset[str] = frozenset()
    constant: frozenset[str] = frozenset()

    def __init__(self, width: int, classes: int) -> None:
        self.width = width
        self.classes = classes
        self._names: list[str] = []
        self._sums: dict[str, Tensor] = {}

    def keep(self, name: str, value: Tensor) -> None:
        """Have a buffer of this name, which is an attribute."""
        self._names.append(name)
        setattr(self, name, value)

    @property
    def buffers(self) -> dict[str, Tensor]:
        """What it answers from, by name."""
        return {name: getattr(self, name) for name in self._names}

    @abstractmethod
    def __call__(self, hidden: Tensor, odds: Tensor) -> Tensor:
        """Log probabilities up to a constant of each row, ``(n, classes)``.

        Args:
            hidden: What it sees of hidden vectors, scaled to the spread of clean rows,
                ``(n, width)``.
            odds: The frozen model's centred log probabilities, ``(n, classes)``.
        """

    @abstractmethod
    def learn(self, hidden: Tensor, odds: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Learn from newly labelled rows, and put new buffers in the place of those that change.

        Args:
            hidden: As in a call.
            odds: As in a call.
            labels: Indices of classes, ``(n,)``.
            weights: How many rows each stands for, ``(n,)``.
        """

    @classmethod
    def learn_together(
        cls,
        group: Sequence[Self],
        seen: Sequence[Tensor],
        odds: Tensor,
        labels: Tensor,
        weights: Tensor,
    ) -> None:
        """Let several of this kind learn the same rows, where that is quicker than one by one.

        Args:
            group: The experts.
            seen: What each sees of hidden vectors, ``(n, width)``.
            odds: As in a call.
            labels: As in `learn`.
            weights: As in `learn`.
        """
        for expert, hidden in zip(group, seen, strict=True):
            expert.learn(hidden, odds, labels, weights)

    def view(self, scaled: Tensor, context: Tensor | None = None) -> Tensor:
        """What it sees of whole hidden vectors, ``(n, width)``.

        Args:
            scaled: Whole hidden vectors.
            context: What the rows around each were like, ``(n, columns)``; few want to know.
        """
        return scaled[:, scaled.shape[1] - self.width :]

    def ask(self, scaled: Tensor, odds: Tensor, context: Tensor | None = None) -> Tensor:
        """Its answer to whole hidden vectors, as a call gives it."""
        return self(self.view(scaled, context), odds)

    def surround(self, scaled: Tensor) -> None:
        """Hear what the newest rows are like, of which no label is known; few want to know."""
        return

    def in_context(self, context: Tensor) -> Expert:
        """A copy that has heard that the newest rows are like this; few want to know."""
        return self

    def linear(self) -> Linear | None:
        """The answer's weights where it is linear; None where it is not."""
        return None

    def memory(self) -> dict[str, Tensor]:
        """What learning goes on from beside the buffers, for a checkpoint."""
        return dict(self._sums)

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Restore what `memory` returned."""
        self._sums = {name: value.clone() for name, value in memory.items()}  # learning adds to it

    def answering(self) -> Expert:
        """A copy that answers as this one does now, and has nothing to learn on.

        It shares the buffers: learning puts others in their place.
        """
        made = object.__new__(type(self))  # `copy` takes four times as long
        made.__dict__.update(self.__dict__, _sums={})
        return made

    def changing(self) -> dict[str, Tensor]:
        """The buffers that learning changes."""
        return {k: v for k, v in self.buffers.items() if k not in self.constant}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put buffers in place.

        Raises:
            RuntimeError: They are not the buffers of this expert, or of another width.
        """
        own = self.buffers
        if set(own) != set(tensors):
            raise RuntimeError(f"expected the tensors {sorted(own)}, got {sorted(tensors)}")
        for name, value in tensors.items():
            mine, given = tuple(own[name].shape), tuple(value.shape)
            free = name in self.growing
            if len(mine) != len(given) or mine[free:] != given[free:]:
                raise RuntimeError(f"{name}: expected the shape {mine}, got {given}")
            setattr(self, name, value.detach().clone())


def with_one(rows: Tensor) -> NDArray[np.float32]:
    """Rows with a column of ones behind them."""
    out = np.ones((len(rows), rows.shape[1] + 1), dtype=np.float32)
    out[:, :-1] = rows.numpy()
    return out


def single(values: NDArray[np.float64]) -> Tensor:
    """Values in single precision, for a buffer."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def one_hot(labels: Tensor, classes: int) -> NDArray[np.float64]:
    """Labels as rows of 0 and 1, ``(n, classes)``."""
    named = labels.numpy()[:, np.newaxis] == np.arange(classes)
    return np.asarray(named, dtype=np.float64)


def softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Probabilities over the last axis; SciPy's takes longer than all the rest of an answer."""
    powers = np.exp(scores - np.maximum.reduce(scores, axis=-1, keepdims=True))
    powers /= np.add.reduce(powers, axis=-1, keepdims=True)
    return np.asarray(powers)
