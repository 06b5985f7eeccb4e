"""Streaming drift detectors from River, calibrated by false alarms instead of by magic numbers.

A detector's own parameter says little of how often it cries wolf, and means something else for
each detector and each stream. `calibrate` turns it round: it takes the number of values that
calm data should last between two false alarms, and finds the parameter by simulation.

River is an optional dependency: ``pip install 'bento-selfheal[detectors]'``.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bento_selfheal.config.parameters import DetectorName
from bento_selfheal.errors import SettingsError

DETECTORS: tuple[str, ...] = get_args(DetectorName)

MEMORY: dict[str, tuple[int, int]] = {
    "adwin": (5120, 2560),
    "kswin": (500, 99),
    "page-hinkley": (5120, 2560),
}
"""Values kept since the last start, and how many of them stay when there are that many.

ADWIN looks every 32 values, so its numbers are multiples of that; KSWIN looks at 100 values,
so 99 stay and the next value is tested as if nothing had happened."""
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
