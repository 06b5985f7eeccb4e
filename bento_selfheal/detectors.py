"""Streaming drift detectors from River, calibrated by false alarms instead of by magic numbers.

A detector's own parameter says little of how often it cries wolf, and means something else for
each detector and each stream. `calibrate` turns it round: it takes the number of values that
calm data should last between two false alarms, and finds the parameter by simulation.

River is an optional dependency: ``pip install 'bento-selfheal[detectors]'``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import SettingsError

DetectorName = Literal["adwin", "kswin", "page-hinkley"]
DETECTORS: tuple[str, ...] = get_args(DetectorName)

MEMORY: dict[str, tuple[int, int]] = {
    "adwin": (5120, 2560),
    "kswin": (500, 99),
    "page-hinkley": (5120, 2560),
}
"""Values kept since the last start, and how many of them stay when there are that many.

ADWIN looks every 32 values, so its numbers are multiples of that; KSWIN looks at 100 values,
so 99 stay and the next value is tested as if nothing had happened."""

RUN_LENGTHS = (100, 100_000)
"""The shortest and the longest run length that `calibrate` can measure, in values."""

_RANGES = {"adwin": (1.0, 1e-12), "page-hinkley": (1.0, 1000.0)}
"""The most and the least sensitive parameter: ADWIN's delta; a threshold in deviations."""
_BISECTIONS = 10
_SIMULATED = (40_000, 1_000_000)
_CHUNK = 20_000
_WINDOW, _STAT = 100, 30
"""KSWIN's window, and how many of its newest values are compared with as many older ones."""
_THRESHOLD_PER_DELTA = 300.0


class Detector:
    """One of River's detectors over one stream: label errors, or the values of one feature.

    It starts anew after each alarm, as River's do. Its state is the list of values since then;
    restoring replays them, so no pickle is needed and the state outlives changes of River's
    classes. The list is bounded (`MEMORY`): when it is full, the detector starts anew on the
    newest part of it. A running and a restored detector do so at the same value, and so
    go on alike to the last alarm; the price is that nothing older is compared with.

    - ``adwin``: two parts of an adaptive window differ in mean (Bifet & Gavaldà 2007, "Learning
      from time-changing data with adaptive windowing"). Its bound is written for values
      of order one: scale a feature to a standard deviation of about 1.
    - ``kswin``: the newest 30 of 100 values differ in distribution from 30 older ones (Raab,
      Heusinger & Schleif 2020, "Reactive soft prototype computing for concept drift streams").
      River spends about 0.2 ms on each value.
    - ``page-hinkley``: the cumulative deviation from the running mean, up or down (Page 1954,
      "Continuous inspection schemes"), without River's fading, which makes false alarms more
      frequent the longer the stream has been calm. The tolerated deviation ("delta") is the
      threshold / 300: a tenth of a standard deviation for a threshold of thirty of them.

    Args:
        name: One of `DETECTORS`.
        sensitivity: ADWIN's delta or KSWIN's alpha, in (0, 1], larger is more sensitive; or
            Page-Hinkley's threshold, positive, in the unit of the values, smaller is more
            sensitive. What `calibrate` returns.
        seed: Seed of KSWIN's draws; the others draw nothing.

    Raises:
        ValueError: An argument is out of range; it is named, with its value.
        SettingsError: River is not installed.

    >>> errors = np.random.default_rng(7)
    >>> detector = Detector("adwin", 0.002)
    >>> detector.update(errors.binomial(1, 0.05, 1000))
    False
    >>> detector.update(errors.binomial(1, 0.30, 200))
    True
    """

    def __init__(self, name: DetectorName, sensitivity: float, seed: int = 42) -> None:
        self.name: DetectorName = _known(name)
        self.sensitivity = _sensitivity(name, sensitivity)
        self.seed = _whole("seed", seed, 0, 2**63)
        self.fired = 0
        """Alarms since the stream began."""
        self._limit, self._kept = MEMORY[name]
        self._restart([])

    def update(self, values: NDArray[Any]) -> bool:
        """Take a batch of finite values, ``(n,)``, in order; whether a change was seen in it.

        Raises:
            ValueError: A value is not a finite number; none of the batch is taken.
        """
        before = self.fired
        for value in _stream("values", values).tolist():
            self._take(value)
        return self.fired > before

    def to_state(self) -> dict[str, Any]:
        """The state, for JSON: the settings, the alarms, and the values since the last start."""
        return {
            "name": self.name,
            "sensitivity": self.sensitivity,
            "seed": self.seed,
            "fired": self.fired,
            "values": list(self._values),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Detector:
        """Restore by replaying the kept values: milliseconds, a tenth of a second for KSWIN.

        Raises:
            ValueError: A part is missing or out of range; it is named.

        >>> first = Detector("page-hinkley", 5.0)
        >>> first.update(np.arange(40.0) % 2)
        False
        >>> again = Detector.from_state(first.to_state())
        >>> first.update(np.full(12, 2.0)), again.update(np.full(12, 2.0))
        (True, True)
        """
        missing = sorted({"name", "sensitivity", "seed", "fired", "values"} - set(state))
        if missing:
            raise ValueError(f"state must hold {missing}, got only {sorted(state)}")
        detector = cls(state["name"], state["sensitivity"], state["seed"])
        values = _stream("values", state["values"])
        if len(values) >= detector._limit:
            raise ValueError(f"values must be fewer than {detector._limit}, got {len(values)}")
        detector._restart(values.tolist())
        detector.fired = _whole("fired", state["fired"], 0, 2**63)
        return detector

    def _restart(self, values: list[float]) -> None:
        self._river = _river_detector(self.name, self.sensitivity, self.seed)
        self._values: list[float] = []
        for value in values:
            self._take(value)

    def _take(self, value: float) -> None:
        self._values.append(value)
        self._river.update(value)
        if self._river.drift_detected:
            self.fired += 1
            self._restart([])
        elif len(self._values) == self._limit:
            self._restart(self._values[-self._kept :])


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


def _river() -> ModuleType:
    """``river.drift``, imported when it is first needed."""
    try:
        from river import drift
    except ImportError as error:
        raise SettingsError(
            f"drift detectors need River: pip install 'bento-selfheal[detectors]' ({error})"
        ) from error
    found: ModuleType = drift
    return found


def _river_detector(name: DetectorName, sensitivity: float, seed: int) -> Any:
    drift = _river()
    if name == "adwin":
        return drift.ADWIN(delta=sensitivity)
    if name == "kswin":
        return drift.KSWIN(alpha=sensitivity, window_size=_WINDOW, stat_size=_STAT, seed=seed)
    return drift.PageHinkley(
        threshold=sensitivity, delta=sensitivity / _THRESHOLD_PER_DELTA, alpha=1.0
    )


def _known(name: DetectorName) -> DetectorName:
    if name not in DETECTORS:
        raise ValueError(f"name must be one of {DETECTORS}, got {name!r}")
    return name


def _sensitivity(name: DetectorName, value: float) -> float:
    most = math.inf if name == "page-hinkley" else 1.0
    if not (isinstance(value, (int, float)) and 0 < value <= most and math.isfinite(value)):
        wanted = "positive and finite" if name == "page-hinkley" else "in (0, 1]"
        raise ValueError(f"sensitivity of {name} must be {wanted}, got {value!r}")
    return float(value)


def _whole(name: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be in {low} ... {high}, got {value}")
    return int(value)


def _stream(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """The values as finite float64, ``(n,)``."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers: {error}") from error
    if array.ndim != 1:
        raise ValueError(f"{name} must have the shape (n,), got {array.shape}")
    wrong = np.flatnonzero(~np.isfinite(array))
    if len(wrong):
        raise ValueError(f"{name}[{wrong[0]}] must be finite, got {array[wrong[0]]}")
    return array
