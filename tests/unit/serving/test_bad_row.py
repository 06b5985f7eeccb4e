"""A row on which the model raises is found; a model that fails is told apart from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.serving.reading.bad_row import find_bad_row

GOOD = np.zeros((1, 2), dtype=np.float32)


class Model:
    """Raises for rows whose first value is 9, and notes what it was asked."""

    def __init__(self, *, most: float = math.inf) -> None:
        self.asked: list[int] = []
        self._most = most

    def __call__(self, rows: NDArray[np.float32]) -> None:
        self.asked.append(len(rows))
        if (rows[:, 0] == 9).any():
            raise IndexError("index out of range in self")
        if len(rows) > self._most:
            raise MemoryError


def batch(n: int, *bad: int) -> NDArray[np.float32]:
    rows = np.zeros((n, 2), dtype=np.float32)
    rows[list(bad), 0] = 9
    return rows


@pytest.mark.parametrize(
    ("rows", "bad"),
    [(1, [0]), (2, [1]), (7, [0]), (1000, [999]), (1000, [3, 500]), (1000, list(range(1000)))],
)
def test_found(rows: int, bad: list[int]) -> None:
    """The first bad row is named, in few calls, none of them with 0 rows."""
    model = Model()
    assert find_bad_row(model, batch(rows, *bad), GOOD) == bad[0]
    assert min(model.asked) >= 1
    assert len(model.asked) <= math.log2(rows) + 3
    assert sum(model.asked) <= 2 * rows + 2


def test_the_model_fails() -> None:
    """A model that raises for a row that it is known to answer has failed: no row is to blame."""
    assert find_bad_row(Model(), batch(10, 3), batch(1, 0)) is None


def test_only_the_batch_fails() -> None:
    """A batch that is too large for the memory is no row's fault."""
    assert find_bad_row(Model(most=4), batch(10), GOOD) is None
