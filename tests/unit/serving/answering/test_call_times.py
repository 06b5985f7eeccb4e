"""How long calls take is learned from the calls themselves."""

from __future__ import annotations

import pytest

from bento_selfheal.serving.answering.call_times import CallTimes


def test_nothing_known() -> None:
    """Without a call, no time is foreseen."""
    assert CallTimes().expected(1, 10) == 0.0


def test_calls_of_one_size() -> None:
    """Where all calls had the same rows, a call of those rows takes what it took."""
    times = CallTimes()
    for _ in range(5):
        times.add(8, 0.25)
    assert times.expected(1, 8) == pytest.approx(0.25)
    assert times.expected(3, 24) == pytest.approx(0.75)


@pytest.mark.parametrize(("few", "many"), [(1.0, 0.5), (0.1, 50.0)])
def test_no_part_is_negative(few: float, many: float) -> None:
    """Noise that would make more rows faster, or a call of no rows take less than nothing, does
    not make a foreseen time negative."""
    times = CallTimes()
    times.add(1, few)
    times.add(100, many)
    assert times.expected(1, 1000) >= times.expected(1, 1) >= 0
    assert times.expected(2, 1) >= times.expected(1, 1)


def test_older_calls_count_less() -> None:
    """After a promotion of a slower model, the new times are known within some tens of calls."""
    times = CallTimes()
    for seconds in [0.1] * 100 + [0.4] * 40:
        times.add(10, seconds)
    assert times.expected(1, 10) == pytest.approx(0.4, rel=0.02)
