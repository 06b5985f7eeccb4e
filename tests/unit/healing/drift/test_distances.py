"""Distances of categories, missing values and hidden vectors: calm rows and changed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.healing.drift.distance.compared import Compared, Mix, Share, Vector
from bento_selfheal.healing.drift.distance.limit import (
    RUN_LENGTH,
    calibrate,
)
from bento_selfheal.healing.drift.distance.limit import (
    run_length_of as rows_to_alarm,
)

SIZE, WINDOW, KNOWN = 100, 10, 2000
COMMON = np.array([0.4, 0.3, 0.2, 0.06, 0.03, 0.01])
LONG_TAIL = 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum()


def mix_of(name: str, counts: NDArray[np.int64], place: int = 0) -> Mix:
    """As a package has it: categories that come in 5 of 1,000 rows each for itself."""
    own = np.flatnonzero(counts * 200 >= counts.sum())[:32]
    cells = np.full(len(counts) + 1, len(own))
    cells[own] = np.arange(len(own))
    seen = np.bincount(cells[:-1], weights=counts, minlength=len(own) + 1)
    return Mix(name, place, cells, seen + 1 / len(seen), 1.0)


def limit_of(compared: Sequence[Compared], run_length: int, seed: int = 1) -> float:
    return calibrate(compared, size=SIZE, window=WINDOW, run_length=run_length, seed=seed)


def run_length_of(compared: Sequence[Compared], streams: Sequence[NDArray[np.float32]]) -> int:
    """Rows to the first alarm on any of some streams of rows ``(n, 1)``, one each; at most n."""
    limit, sums = limit_of(compared, 10_000), []
    for one, rows in zip(compared, streams, strict=True):
        total = np.cumsum([one.sums(b) for b in np.split(rows, len(rows) // SIZE)], axis=0)
        sums.append(np.concatenate([np.zeros_like(total[:1]), total]))
    for at in range(3, len(sums[0])):
        fill = min(at, WINDOW)
        for one, total in zip(compared, sums, strict=True):
            if one.distance(total[at] - total[at - fill], fill * SIZE) > limit:
                return at * SIZE
    return len(streams[0])


def calm_run(draw: np.random.Generator, most: int = 60_000) -> int:
    """Rows to the first false alarm of five things together, with training rows of their own."""
    compared: list[Compared] = []
    streams = []
    for shares in (COMMON, LONG_TAIL):
        compared.append(mix_of("mix", draw.multinomial(KNOWN, shares)))
        streams.append(draw.choice(len(shares), p=shares, size=(most, 1)).astype(np.float32))
    for share in (0.0, 0.003, 0.3):
        having = draw.binomial(KNOWN, share)
        compared.append(Share("gap", lambda rows: rows[:, 0] > 0, KNOWN - having, having))
        streams.append((draw.random((most, 1)) < share).astype(np.float32))
    return run_length_of(compared, streams)


def test_run_length_to_a_false_alarm() -> None:
    """Over frequent and rare categories, gaps and none at all together, a false alarm comes after
    the rows that were asked for, and not after many times as many."""
    draw = np.random.default_rng(7)
    runs = [calm_run(draw) for _ in range(24)]
    assert 10_000 <= np.mean(runs) <= 40_000


@pytest.mark.parametrize(("share", "new", "within"), [(0.0, 0.05, 300), (0.3, 0.45, 500)])
def test_missing_rate(share: float, new: float, within: int) -> None:
    """A rate of missing values that moves is seen, where there were none too."""
    draw = np.random.default_rng(3)
    having = round(KNOWN * share)
    gap = Share("speed (missing)", lambda rows: rows[:, 0] > 0, KNOWN - having, having)
    seen = [
        run_length_of([gap], [(draw.random((5000, 1)) < new).astype(np.float32)]) for _ in range(9)
    ]
    assert np.median(seen) <= within


def test_a_category_that_comes_more_often() -> None:
    """A shift of a tenth of the rows from one category to another is seen in a window."""
    draw = np.random.default_rng(3)
    mix = mix_of("sky", draw.multinomial(KNOWN, COMMON))
    moved = COMMON + np.array([-0.1, 0, 0, 0, 0.1, 0])
    rows = draw.choice(len(COMMON), p=moved, size=(5000, 1)).astype(np.float32)
    assert run_length_of([mix], [rows]) <= 500


def test_a_constant_category_has_a_distance() -> None:
    """One category alone in training: more of it is calm, and another one is not; a row without
    any says nothing."""
    mix = mix_of("sky", np.array([KNOWN]))
    limit = limit_of([mix], 100_000)
    rows = np.zeros((1000, 1), dtype=np.float32)
    assert mix.distance(mix.sums(rows), 1000) < limit
    rows[:30] = 1
    assert mix.distance(mix.sums(rows), 1000) > limit
    rows[:] = np.nan
    assert np.isfinite(mix.distance(mix.sums(rows), 1000))
    assert mix.sums(rows).sum() == 0


def vector(m: int, draw: np.random.Generator) -> Vector:
    """Eight hidden values that depend on each other, with long tails."""
    return Vector("hidden vector", list(range(8)), hidden(m, draw), max(m // 50, 1))


def hidden(n: int, draw: np.random.Generator) -> NDArray[np.float64]:
    turn = np.random.default_rng(0).normal(size=(8, 8))
    return np.maximum(draw.exponential(size=(n, 8)) @ turn, 0.0)


def test_hidden_vectors_have_a_run_length() -> None:
    """Independent vectors like those of the reference set rarely raise an alarm."""
    draw, runs = np.random.default_rng(5), []
    for _ in range(16):
        one = vector(500, draw)
        runs.append(run_length_of([one], [hidden(40_000, draw).astype(np.float32)]))
    assert np.mean(runs) >= 10_000


def test_a_hidden_vector_that_moves_is_seen() -> None:
    """A shift by a third of a standard deviation in one direction."""
    draw = np.random.default_rng(6)
    one = vector(500, draw)
    rows = hidden(5000, draw)
    rows += 0.33 * rows.std(axis=0)
    assert run_length_of([one], [rows.astype(np.float32)]) <= 500


def test_same_seed_same_limit() -> None:
    """The seed decides all draws; a longer run length needs a higher limit."""
    one = mix_of("sky", np.array([900, 700, 400]))
    assert limit_of([one], 10_000) == limit_of([one], 10_000) < limit_of([one], 100_000)
    assert limit_of([], 10_000) == np.inf


def test_large_batches_have_a_limit() -> None:
    """Where a window holds as many rows as a run length, not every window is a false alarm."""
    draw = np.random.default_rng(0)
    one = Vector("hidden vector", list(range(8)), hidden(500, draw), 10)
    gap = Share("gap", lambda rows: rows[:, 0] > 0, 1600, 400)
    size = 10_000
    limit = calibrate(
        [one, gap], size=size, window=WINDOW, run_length=rows_to_alarm(size, WINDOW), seed=1
    )
    assert limit > 2.5
    assert rows_to_alarm(SIZE, WINDOW) == RUN_LENGTH
