"""The lift in a segment, with its interval, from sums over blocks of labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bento_selfheal.scoring.scores import Interval, batch_interval

BLOCKS = 40


@dataclass
class Lift:
    """Mean gain of a segment's labels, in blocks that follow each other and grow with them.

    Neighbouring labels of a stream resemble each other, so the interval is that of the means of
    blocks (`batch_interval`), as of the lift of all rows. Once there are 40 blocks each is joined
    with its neighbour, so that a segment takes the same few numbers however many labels it has.

    >>> lift = Lift()
    >>> for gain in (1.0, 0.0, 1.0, 0.0): lift.add(gain, 1.0)
    >>> lift.interval().mean
    0.5
    """

    size: int = 1
    """Labels that make a block."""
    filled: int = 0
    """Labels in the newest block."""
    gains: list[float] = field(default_factory=list)
    """Sum of the weighted gains of each block, oldest first."""
    weights: list[float] = field(default_factory=list)
    """Rows that the labels of each block stand for."""

    def add(self, gain: float, weight: float) -> None:
        """Take a label: the served answer's score less the packaged model's, in [-1, 1]."""
        if not self.weights or self.filled == self.size:
            if len(self.weights) == BLOCKS:
                self._join()
            self.gains.append(0.0)
            self.weights.append(0.0)
            self.filled = 0
        self.gains[-1] += weight * gain
        self.weights[-1] += weight
        self.filled += 1

    def _join(self) -> None:
        pairs = range(0, BLOCKS, 2)
        self.gains = [sum(self.gains[i : i + 2]) for i in pairs]
        self.weights = [sum(self.weights[i : i + 2]) for i in pairs]
        self.size *= 2

    def interval(self) -> Interval:
        """Mean gain with its 95 % interval."""
        weights = np.asarray(self.weights)
        known = weights > 0
        means = np.asarray(self.gains)[known] / weights[known]
        return batch_interval(means.tolist(), weights[known].tolist())
