"""Drift signals: FIDI's z and what asks for a heal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.healing.drift.fidi import Fidi


def batch(*means: float) -> NDArray[np.float32]:
    """A batch whose features have these means."""
    return np.array([np.subtract(means, 1), np.add(means, 1)], dtype=np.float32)


def one(window: int = 10, mean: float = 0.0, std: float = 1.0) -> Fidi:
    return Fidi(["V14"], [mean], [std], window)


def test_silent_until_three_batches() -> None:
    """z is 0 until 3 batches have been seen, however far they are."""
    fidi = one()
    assert [fidi.update(batch(50.0)) for _ in range(3)] == [0.0, 0.0, 50.0]


def test_formula() -> None:
    """z = |mean of batch means - mu| / sigma, with sigma the spread of samples."""
    fidi = one(mean=1.0, std=2.0)
    for mean in (-1.0, -2.0, -6.0):
        z = fidi.update(batch(mean))
    assert z == pytest.approx(abs(-3.0 - 1.0) / 2.0)


def test_window_forgets() -> None:
    """Only the last batch means of the window count."""
    fidi = one(window=3)
    zs = [fidi.update(batch(mean)) for mean in (9.0, 9.0, 9.0, 0.0, 0.0, 0.0)]
    assert zs == pytest.approx([0.0, 0.0, 9.0, 6.0, 3.0, 0.0])


def test_zero_spread_is_left_out() -> None:
    """A feature that was constant when calibrated has no z and blinds no other one."""
    fidi = Fidi(["flat", "V14"], [0.0, 0.0], [0.0, 1.0], 10)
    for _ in range(3):
        z = fidi.update(batch(1000.0, 2.0))
    assert z == pytest.approx(2.0)
    assert list(fidi.scores()) == ["V14"]


def test_nothing_to_watch() -> None:
    """With no feature that varies z is 0, without a warning."""
    fidi = one(std=0.0)
    assert [fidi.update(batch(9.0)) for _ in range(4)] == [0.0] * 4
    assert fidi.reading(0, threshold=1.0, conflict_min=5).feature is None


def test_largest_z_is_named() -> None:
    """Over several features the largest z counts and its feature is named."""
    fidi = Fidi(["a", "b"], [0.0, 0.0], [1.0, 10.0], 10)
    for _ in range(3):
        fidi.update(batch(-3.0, 20.0))
    reading = fidi.reading(2, threshold=1.0, conflict_min=5)
    assert reading.feature == "a"
    assert reading.z == pytest.approx(3.0)
    assert reading.reason == "z=3.00 on a, conflicts=2"


@pytest.mark.parametrize(
    ("z", "conflicts", "asks"),
    [(0.0, 0, False), (1.0, 4, False), (1.5, 0, True), (0.0, 5, True), (1.5, 5, True)],
)
def test_either_signal_asks(z: float, conflicts: int, asks: bool) -> None:
    """z above its threshold, or as many conflicts as the minimum, asks for a heal."""
    fidi = one()
    for _ in range(3):
        fidi.update(batch(z))
    assert fidi.reading(conflicts, threshold=1.0, conflict_min=5).drifting is asks


def test_conflicts_ask_before_fidi_can() -> None:
    """Conflicts ask for a heal in the very first batch."""
    fidi = one()
    fidi.update(batch(0.0))
    reading = fidi.reading(5, threshold=1.0, conflict_min=5)
    assert reading.drifting
    assert reading.reason == "z=0.00, conflicts=5"
