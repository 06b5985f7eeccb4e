"""How much a difference of losses counts where rows are chosen by what their labels can tell."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.gate import Gate
from bento_selfheal.healing.evidence.reach import Reach

Numbers = NDArray[np.float64]
SHARE, FLAT = 0.02, 0.3


def chances(apart: Numbers, mean: float) -> Numbers:
    """As the queue makes them: in part at random, in part by what a label can tell."""
    return np.asarray(SHARE * (FLAT + (1 - FLAT) * apart / mean))


def test_where_all_rows_are_as_likely_each_counts_one() -> None:
    """Random choice is judged as it would be without a queue."""
    apart = np.linspace(0, 1, 11)
    reach, alike = Reach(), np.full(11, SHARE)
    for _ in range(3):
        assert reach.scale(1 / alike, alike, apart) == pytest.approx(1.0)


def test_differences_are_in_bounds_and_unbiased() -> None:
    """What counts, times the difference, is in [-1, 1]; and all rows count as often as they come,
    whatever their chances are."""
    apart = np.linspace(0.01, 1, 100)
    own, highest = chances(apart, 0.1), float(chances(np.ones(1), 0.1)[0])
    scale = Reach().scale(1 / own, np.full(100, highest), apart)
    assert (scale * apart).max() == pytest.approx(1.0)
    assert own * scale == pytest.approx(highest)


def test_answers_that_moved_apart() -> None:
    """Rows that nobody disputed when they were asked for, and everybody does now, count less at
    first; once this is known, all count alike again."""
    reach = Reach()
    alike = np.full(50, SHARE)
    first = reach.scale(1 / alike, 10 * alike, np.full(50, 0.8))
    assert first == pytest.approx(1 / 0.8)
    mixed = np.tile([0.1, 0.8], 25)
    assert reach.scale(1 / alike, 10 * alike, mixed) == pytest.approx(1 / 0.8)


def test_it_goes_on_from_a_checkpoint() -> None:
    """Restored, the gate counts as before; a checkpoint of an earlier release holds no reach."""
    one, other = Gate(0.05, 1000), Gate(0.05, 1000)
    given = np.full(5, 50.0), np.full(5, 0.1), np.linspace(0, 1, 5)
    one.reach.scale(*given)
    other.restore(one.state())
    assert np.array_equal(one.reach.scale(*given), other.reach.scale(*given))
    older = {name: value for name, value in one.state().items() if name != "reach"}
    other.restore(older)
    assert other.reach.newest == []
