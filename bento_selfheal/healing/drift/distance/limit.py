"""The distance that calm rows rarely reach: found by simulation, for all that is compared at
once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.drift.distance.compared import Compared, Floats, Sums

RUN_LENGTH = 100_000
"""Rows from the start to the first false alarm on average, whatever is compared. One in so many
rows is rare enough to be looked into, and a change of a whole column still shows in 300 rows."""
LEAST_WINDOWS = 100
"""Full windows to the first false alarm, where settings make these longer than `RUN_LENGTH`: of
large batches, every window would be an alarm."""
RUNS = 50
"""Simulated streams; each has its own truth about what the training rows leave open."""
RUN_LENGTHS = 20
"""Run lengths that are simulated in all."""
MOST_BATCHES = 50_000
STARTS = 20
"""Windows of a run, at most, that tell how calm rows are before a window is full."""
FEWEST = 3
"""Batches in the window before anything is said, as in FIDI."""


def run_length_of(size: int, window: int) -> int:
    """Rows to a false alarm for so many rows in a batch and batches in the window."""
    return max(RUN_LENGTH, LEAST_WINDOWS * size * window)


def calibrate(
    compared: Sequence[Compared], *, size: int, window: int, run_length: int, seed: int
) -> float:
    """The limit of all distances; takes the spreads of calm rows into those that need them.

    Each is simulated on independent rows like the training rows, independently of the others:
    columns that move together raise fewer alarms. A limit passes when it has a standard error fewer
    alarms than the run length allows. An alarm is counted where any distance is above the limit;
    the window then fills anew.

    Args:
        compared: What is compared; infinity where there is nothing.
        size: Rows of a batch.
        window: Batches in the window.
        run_length: Rows to a false alarm, on average.
        seed: Seed of the simulation; the same arguments give the same answer.
    """
    if not compared:
        return float("inf")
    batches = min(RUN_LENGTHS * run_length // size, MOST_BATCHES) // RUNS
    batches = max(batches, 2 * window)
    windows = list(_windows(batches, window))
    fills = np.repeat([fill for fill, _ in windows], [len(begins) for _, begins in windows])
    begins = np.concatenate([begins for _, begins in windows])
    ends = begins + fills
    farthest = np.full((RUNS, batches), -np.inf)
    for i, one in enumerate(compared):
        drawn = one.draw(np.random.default_rng([seed, i]), RUNS, batches, size)
        raw = [one.raw(_sums(some, begins, ends), fills * size) for some in drawn]
        farthest = np.maximum(farthest, _distances(one, np.concatenate(raw), windows, size))
    due = RUNS * batches * size / run_length
    return _limit(farthest, window, due - np.sqrt(due))


def _windows(batches: int, window: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """By number of batches in the window, ascending: where in a run windows begin that hold so
    many. Full ones begin everywhere, others are only needed to know how calm rows are."""
    apart = max(batches // STARTS, 1)
    for fill in _fills(window):
        yield fill, np.arange(0, batches - fill + 1, apart)
    yield window, np.arange(batches - window + 1)


def _distances(
    one: Compared, raw: Floats, windows: Sequence[tuple[int, NDArray[np.int64]]], size: int
) -> Floats:
    """Of what was said of all windows of some runs, ``(runs, n)``: the distance after each batch,
    ``(runs, batches)``, and -inf where none is known."""
    batches = windows[-1][0] + len(windows[-1][1]) - 1
    out, first = np.full((len(raw), batches), -np.inf), 0
    for fill, begins in windows:
        last = first + len(begins)
        distances = one.calm_distance(raw[:, first:last], fill * size)
        places = slice(fill - 1, None if fill == windows[-1][0] else fill)
        out[:, places] = distances[:, : out[:, places].shape[1]]
        first = last
    return out


def _sums(drawn: Sums, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Sums:
    """Of batches ``(runs, batches, k)``: sums from one on and up to another, ``(runs, n, k)``."""
    runs, batches, width = drawn.shape
    total = np.zeros((runs, batches + 1, width), dtype=drawn.dtype)
    np.cumsum(drawn, axis=1, out=total[:, 1:])
    return total.take(ends, axis=1) - total.take(begins, axis=1)


def _fills(window: int) -> Iterator[int]:
    """Numbers of batches in a window that is not full which are simulated: a window that grows by
    a twentieth says nearly the same."""
    fill = min(FEWEST, window)
    while fill < window:
        yield fill
        fill += max(fill // 20, 1)


def _limit(farthest: Floats, window: int, allowed: float) -> float:
    """The smallest limit with no more alarms than allowed; the largest distance if none."""
    low, high = 0.0, float(farthest.max())
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if _alarms(farthest > middle, window) <= allowed else (middle, high)
        )
    return high


def _alarms(over: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], window: int) -> int:
    """How many alarms; after each one a window has to fill again."""
    count = 0
    for run in over:
        at = np.flatnonzero(run)
        while len(at):
            count += 1
            at = at[at >= at[0] + window]
    return count
