"""Figures: counts that add up, and an interval that covers what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_selfheal.scoring.scores import Scores, batch_interval

decisions = st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 1)), max_size=40)


def scores(rows: list[tuple[float, int]]) -> Scores:
    return Scores.of(
        np.asarray([p for p, _ in rows], dtype=np.float32), np.asarray([y for _, y in rows])
    )


@given(decisions, st.integers(0, 40))
def test_scores_add_up(rows: list[tuple[float, int]], cut: int) -> None:
    """Scores of two parts add up to the scores of the whole; every row counts once."""
    whole = scores(rows)
    assert scores(rows[:cut]) + scores(rows[cut:]) == whole
    assert whole.rows == len(rows)
    right = sum((p >= 0.5) == bool(y) for p, y in rows)
    assert whole.accuracy == (right / len(rows) if rows else 0.0)


def test_figures_by_hand() -> None:
    """Precision, recall and F1 are the textbook's; a probability of exactly 0.5 is a yes."""
    s = scores([(0.5, 1), (0.9, 1), (0.9, 0), (0.1, 1), (0.2, 0), (0.3, 0), (0.4, 0)])
    assert (s.tp, s.fp, s.fn, s.tn) == (2, 1, 1, 3)
    assert s.precision == pytest.approx(2 / 3)
    assert s.recall == pytest.approx(2 / 3)
    assert s.f1 == pytest.approx(2 / 3)
    assert s.accuracy == pytest.approx(5 / 7)


def test_figures_of_nothing() -> None:
    """Without rows, or without a class, figures are 0 and never a division by zero."""
    for rows in ([], [(0.1, 0)], [(0.9, 0)], [(0.1, 1)]):
        s = scores(rows)
        assert s.f1 == s.precision == s.recall == 0.0


def covered(series: np.ndarray[tuple[int, int], np.dtype[np.float64]], truth: float) -> float:
    inside = [i.low <= truth <= i.high for i in map(batch_interval, series.tolist())]
    return float(np.mean(inside))


@pytest.mark.parametrize("batches", [5, 20, 100, 333])
def test_coverage(batches: int) -> None:
    """Over independent batches the 95 % interval holds the truth about 95 times of 100."""
    series = np.random.default_rng(0).normal(0.1, 0.05, size=(1500, batches))
    assert 0.93 <= covered(series, 0.1) <= 0.975


def test_coverage_when_batches_resemble_each_other() -> None:
    """Over batches that follow each other closely the interval still holds the truth, where one
    that takes them as independent would fail."""
    generator = np.random.default_rng(1)
    noise = generator.normal(size=(800, 600))
    series = np.zeros_like(noise)
    series[:, 0] = noise[:, 0] / np.sqrt(1 - 0.7**2)
    for i in range(1, 600):
        series[:, i] = 0.7 * series[:, i - 1] + noise[:, i]
    assert covered(series, 0.0) >= 0.91
    naive = 1.96 * series.std(axis=1) / np.sqrt(600)
    assert np.mean(np.abs(series.mean(axis=1)) <= naive) < 0.7


def test_few_values() -> None:
    """Fewer than two batches say nothing: the interval is as wide as lift can be."""
    assert str(batch_interval([])) == "+0.000 [-1.000, +1.000]"
    assert (batch_interval([0.3]).mean, batch_interval([0.3]).low) == (0.3, -1.0)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60))
def test_interval_holds_its_mean(values: list[float]) -> None:
    """The mean is the mean of the values and lies in its interval."""
    interval = batch_interval(values)
    assert interval.mean == pytest.approx(np.mean(values))
    assert interval.low <= interval.mean <= interval.high
