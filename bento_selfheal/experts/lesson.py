"""Labelled rows as experts learn them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """Labelled rows as experts learn them, on the CPU."""

    hidden: Tensor
    """The frozen backbone's output, ``(n, width)``"""
    frozen: Tensor
    """What the frozen model says, ``(n, classes)``"""
    labels: Tensor
    """Indices of classes, ``(n,)``"""
    weights: Tensor
    """Rows that each stands for, ``(n,)``"""
    context: Tensor | None = None
    """What the rows around each were like, as `Standing.context` says it, ``(n, inputs)``; where it
    is not known, what they are like now"""

    def part(self, cut: slice) -> Lesson:
        """Some rows that follow each other."""
        context = None if self.context is None else self.context[cut]
        return Lesson(
            self.hidden[cut], self.frozen[cut], self.labels[cut], self.weights[cut], context
        )

    def __len__(self) -> int:
        return len(self.labels)
