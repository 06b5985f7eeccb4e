"""Calibrates River's detectors by simulation, to a run length between false alarms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.parameters import DetectorName
from bento_selfheal.healing.drift.detectors import (
    _STAT,
    _WINDOW,
    Detector,
    _known,
    _river,
    _stream,
    _whole,
)

RUN_LENGTHS = (100, 100_000)
"""The shortest and the longest run length that `calibrate` can measure, in values."""

_RANGES = {"adwin": (1.0, 1e-12), "page-hinkley": (1.0, 1000.0)}
"""The most and the least sensitive parameter: ADWIN's delta; a threshold in deviations."""
_BISECTIONS = 10
_SIMULATED = (40_000, 1_000_000)
_CHUNK = 20_000


def calibrate(
    name: DetectorName, sample: NDArray[np.float64], *, run_length: int, seed: int
) -> float:
    """The most sensitive parameter whose false alarms are at least ``run_length`` values apart.

    The average run length of quality control (Page 1954), measured on values drawn from the
    sample independently and with replacement: 30 run lengths, at most 1,000,000 values. A
    parameter passes when it has a standard error fewer alarms than the run length allows, so
    that the true run length is rarely below what was asked. KSWIN's p-values come in 30 steps,
    each several times rarer than the one before, so its run length can be several times longer.

    Args:
        name: One of `DETECTORS`.
        sample: Calm values, ``(n,)``: 0/1 errors on the reference set, or a feature's values.
        run_length: Values from one false alarm to the next, in 100 ... 100,000.
        seed: Seed of the simulation; the same arguments give the same answer.

    Returns:
        The `sensitivity` of a `Detector` that is to watch values in the same unit as the
        sample: ADWIN's delta, KSWIN's alpha, or Page-Hinkley's threshold (searched between 1
        and 1000 standard deviations of the sample). The least sensitive one if the sample is
        constant (then Page-Hinkley's unit is ``max(|value|, 1)``, which leaves it all but
        blind) or if none passes.

    Raises:
        ValueError: An argument is out of range; it is named, with its value.
        SettingsError: River is not installed.

    >>> errors = np.random.default_rng(7).binomial(1, 0.05, 2000).astype(float)
    >>> f'{calibrate("kswin", errors, run_length=1000, seed=42):.2f}'
    '0.69'
    """
    _known(name)
    _river()
    calm = _stream("sample", sample)
    if len(calm) == 0:
        raise ValueError("sample must hold at least one value, got 0")
    length = _whole("run_length", run_length, *RUN_LENGTHS)
    generator = np.random.default_rng(_whole("seed", seed, 0, 2**63))
    if np.ptp(calm) == 0:
        return _least_sensitive(name, max(abs(float(calm[0])), 1.0))
    values = generator.choice(calm, int(np.clip(30 * length, *_SIMULATED)))
    due = len(values) / length
    allowed = due - math.sqrt(due)
    if name == "kswin":
        return _calibrate_kswin(values, allowed, generator)
    scale = float(calm.std()) if name == "page-hinkley" else 1.0
    most, least = _RANGES[name]

    def parameter(share: float) -> float:
        return scale * most * math.pow(least / most, share)

    return parameter(_bisect(lambda share: _passes(name, parameter(share), values, allowed)))


def _bisect(passes: Callable[[float], bool]) -> float:
    """The smallest share in 0 ... 1 that passes; 1 if none does."""
    if passes(0.0):
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _passes(
    name: DetectorName, sensitivity: float, values: NDArray[np.float64], allowed: float
) -> bool:
    """Whether the calm values raise no more alarms than are allowed; stops at the first over."""
    detector = Detector(name, sensitivity)
    for part in np.array_split(values, len(values) // 1000):
        detector.update(part)
        if detector.fired > allowed:
            return False
    return True


def _calibrate_kswin(
    values: NDArray[np.float64], allowed: float, generator: np.random.Generator
) -> float:
    """KSWIN's alpha, from all statistics at once: River would take minutes for as many."""
    distances = np.concatenate(list(_kswin_distances(values, generator)))
    for level in range(4, _STAT):  # River never fires on a distance of 0.1 or less.
        if _alarms(np.flatnonzero(distances >= level)) <= allowed:
            return _kswin_alpha(level)
    return _kswin_alpha(_STAT)


def _kswin_distances(
    values: NDArray[np.float64], generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """KSWIN's statistic after each value, in units of 1/30, from the 100th value on."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _WINDOW)
    older = _WINDOW - _STAT
    step = np.repeat([1, -1], _STAT)
    for start in range(0, len(windows), _CHUNK):
        chunk = windows[start : start + _CHUNK]
        drawn = generator.random((len(chunk), older)).argpartition(_STAT, axis=1)[:, :_STAT]
        both = np.hstack([np.take_along_axis(chunk, drawn, axis=1), chunk[:, older:]])
        order = both.argsort(axis=1)
        ranked = np.take_along_axis(both, order, axis=1)
        gaps = np.abs(step[order].cumsum(axis=1))
        # Between equal values neither distribution function has a gap yet.
        gaps[:, :-1][ranked[:, 1:] == ranked[:, :-1]] = 0
        yield gaps.max(axis=1)


def _alarms(over: NDArray[np.int64]) -> int:
    """How many alarms: after each one KSWIN fills a whole window before it looks again."""
    count, at = 0, 0
    while at < len(over):
        count += 1
        at = int(np.searchsorted(over, over[at] + _WINDOW))
    return count


def _kswin_alpha(level: int) -> float:
    """An alpha that fires from a distance of level/30 on, halfway (in logs) to level - 1."""
    return math.sqrt(_ks_p_value(level) * _ks_p_value(level - 1))


def _ks_p_value(level: int) -> float:
    """P(D >= level/30) of two samples of 30 (Gnedenko & Korolyuk 1951).

    >>> f"{_ks_p_value(10):.4f}"
    '0.0709'
    """
    ways = sum(
        (-1) ** (i + 1) * math.comb(2 * _STAT, _STAT - i * level)
        for i in range(1, _STAT // level + 1)
    )
    return float(2 * ways / math.comb(2 * _STAT, _STAT))


def _least_sensitive(name: DetectorName, scale: float) -> float:
    if name == "kswin":
        return _kswin_alpha(_STAT)
    return _RANGES[name][1] * (scale if name == "page-hinkley" else 1.0)
