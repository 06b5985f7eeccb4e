"""The distance that calm rows rarely reach: found by simulation, for all that is compared at
once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bento_selfheal.healing.drift.distance.compared import Compared, Floats, Mix, Vector

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
    farthest = np.full((RUNS, batches), -np.inf)
    for i, one in enumerate(compared):
        drawn = one.draw(np.random.default_rng([seed, i]), RUNS, batches, size)
        for places, fill, sums in _windows(drawn, window):
            if isinstance(one, Mix | Vector):
                raw = one.raw(sums, fill * size)
                one.calm[fill * size] = float(raw.mean()), max(float(raw.std()), 1e-9)
            distances = one.distance(sums, fill * size)
            farthest[:, places] = np.maximum(farthest[:, places], distances[:, : len(places)])
    due = RUNS * batches * size / run_length
    return _limit(farthest, window, due - np.sqrt(due))


def _windows(drawn: Floats, window: int) -> Iterator[tuple[range, int, Floats]]:
    """By number of batches in the window: where in a run it has so many, and the sums of all
    windows of so many, ``(runs, windows, k)``, those first."""
    total = np.concatenate([np.zeros_like(drawn[:, :1]), drawn.cumsum(axis=1)], axis=1)
    for fill in range(min(FEWEST, window), window + 1):
        sums = total[:, fill:] - total[:, :-fill]
        if fill < window:
            yield range(fill - 1, fill), fill, sums[:, ::window]
        else:
            yield range(fill - 1, drawn.shape[1]), fill, sums


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
