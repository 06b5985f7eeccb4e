"""River's drift detectors: calibrated by false alarms, prompt on a change, restored exactly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError
from bento_selfheal.healing.drift.detector_calibration import calibrate
from bento_selfheal.healing.drift.detectors import DETECTORS, MEMORY, Detector

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
SENSITIVE = {"adwin": 0.05, "kswin": 0.001, "page-hinkley": 20.0}


def errors(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    return generator.binomial(1, 0.05, n).astype(np.float64)


def normal(generator: np.random.Generator, n: int) -> NDArray[np.float64]:
    return generator.normal(size=n)


def calm(draw: Draw, seed: int, n: int) -> NDArray[np.float64]:
    return draw(np.random.default_rng(seed), n)


@cache
def sensitivity_for(name: Any, draw: Draw, run_length: int) -> float:
    """What the calibration comes to on a long calm sample."""
    return calibrate(name, calm(draw, 1, 5000), run_length=run_length, seed=42)


def delay(detector: Detector, values: NDArray[Any]) -> int:
    """Values until the first alarm; one more than there are if there is none."""
    for i, value in enumerate(values):
        if detector.update(np.array([value])):
            return i + 1
    return len(values) + 1


@pytest.mark.parametrize("draw", [errors, normal])
@pytest.mark.parametrize(
    "name", ["adwin", pytest.param("kswin", marks=pytest.mark.slow), "page-hinkley"]
)
def test_run_length_is_what_was_asked(name: Any, draw: Draw) -> None:
    """On fresh calm data false alarms are not twice as frequent as was asked."""
    asked, lengths = 1000, 8 if name == "kswin" else 60
    detector = Detector(name, calibrate(name, calm(draw, 1, 20_000), run_length=asked, seed=42))
    detector.update(calm(draw, 2, lengths * asked))
    assert detector.fired <= 2 * lengths


@pytest.mark.parametrize("draw", [errors, normal])
@pytest.mark.parametrize("name", ["adwin", "page-hinkley"])
def test_run_length_is_not_wasted(name: Any, draw: Draw) -> None:
    """Nor does the detector wait much longer than it was allowed to, where it has the choice."""
    asked = 2000
    detector = Detector(name, calibrate(name, calm(draw, 3, 20_000), run_length=asked, seed=42))
    detector.update(calm(draw, 4, 30 * asked))
    assert 30 / 2.5 <= detector.fired <= 30 * 2


@pytest.mark.parametrize("name", DETECTORS)
def test_longer_run_length_is_less_sensitive(name: Any) -> None:
    """Who allows fewer false alarms gets a less sensitive parameter."""
    sample = calm(normal, 1, 5000)
    eager, patient = (calibrate(name, sample, run_length=n, seed=1) for n in (200, 2000))
    assert (eager < patient) if name == "page-hinkley" else (eager > patient)


@pytest.mark.parametrize("name", DETECTORS)
def test_calibration_is_deterministic(name: Any) -> None:
    """The same sample and seed give the same parameter."""
    sample = calm(errors, 1, 500)
    assert calibrate(name, sample, run_length=500, seed=3) == calibrate(
        name, sample, run_length=500, seed=3
    )


def test_page_hinkley_follows_the_unit() -> None:
    """A feature in another unit gets a threshold in that unit, and the same alarms."""
    sample = calm(normal, 1, 2000)
    one, thousand = (
        calibrate("page-hinkley", sample * unit, run_length=500, seed=1) for unit in (1, 1000)
    )
    assert thousand == pytest.approx(1000 * one)


@pytest.mark.parametrize("draw", [errors, normal])
@pytest.mark.parametrize("name", DETECTORS)
def test_change_is_found_soon(name: Any, draw: Draw) -> None:
    """An error rate from 5 to 40 %, or a mean two deviations higher, is seen within 200 values."""
    detector = Detector(name, sensitivity_for(name, draw, 3000))
    detector.update(calm(draw, 7, 300))
    generator = np.random.default_rng(8)
    changed = generator.binomial(1, 0.4, 200) if draw is errors else generator.normal(2, 1, 200)
    assert delay(detector, changed) <= 200


@pytest.mark.parametrize("direction", [-1.0, 1.0])
@pytest.mark.parametrize("name", DETECTORS)
def test_both_directions(name: Any, direction: float) -> None:
    """A mean that falls is seen as well as one that rises."""
    detector = Detector(name, sensitivity_for(name, normal, 3000))
    assert not detector.update(calm(normal, 7, 300))
    assert delay(detector, np.full(200, 2 * direction)) <= 200


@pytest.mark.parametrize("name", DETECTORS)
def test_batches_do_not_matter(name: Any) -> None:
    """One long batch and many short ones raise the same alarms."""
    stream = np.repeat([0.0, 1.0, 0.0], 300) + calm(normal, 5, 900) * 0.1
    whole, parts = Detector(name, SENSITIVE[name]), Detector(name, SENSITIVE[name])
    found = whole.update(stream)
    found_in = [parts.update(part) for part in np.array_split(stream, 50)]
    assert found == any(found_in)
    assert sum(found_in) >= 2
    assert whole.to_state() == parts.to_state()
    assert whole.fired >= 2


@pytest.mark.parametrize("before", [0, pytest.param(37, marks=pytest.mark.slow), 700, 11_003])
@pytest.mark.parametrize("name", DETECTORS)
def test_restored_goes_on_exactly(name: Any, before: int) -> None:
    """After a round trip through JSON every alarm comes at the same value, also when the
    memory has been cut."""
    before = min(before, 1203) if name == "kswin" else before
    first = Detector(name, SENSITIVE[name], seed=5)
    first.update(calm(normal, 6, before))
    again = Detector.from_state(json.loads(json.dumps(first.to_state())))
    assert again.to_state() == first.to_state()
    stream = calm(normal, 7, 1500) + np.repeat([0.0, 1.0, 0.0], 500)
    for part in np.array_split(stream, 150):
        assert again.update(part) == first.update(part)
    assert again.to_state() == first.to_state()
    assert first.fired >= 1


@pytest.mark.parametrize("name", DETECTORS)
def test_state_is_bounded(name: Any) -> None:
    """However long the calm, no more values are kept than the memory holds."""
    limit, kept = MEMORY[name]
    detector = Detector(name, 1e9 if name == "page-hinkley" else 1e-12)
    detector.update(calm(normal, 9, limit - 1))
    assert len(detector.to_state()["values"]) == limit - 1
    detector.update(np.array([0.5]))
    assert len(detector.to_state()["values"]) == kept
    assert detector.to_state()["values"][-1] == 0.5
    assert detector.fired == 0


@pytest.mark.parametrize("constant", [0.0, 0.1, -250.0])
@pytest.mark.parametrize("name", DETECTORS)
def test_constant_sample(name: Any, constant: float) -> None:
    """A constant sample gives the least sensitive value, which stays silent on it."""
    sensitivity = calibrate(name, np.full(200, constant), run_length=1000, seed=1)
    varied = calibrate(name, calm(normal, 1, 1000), run_length=1000, seed=1)
    assert (sensitivity > varied) if name == "page-hinkley" else (sensitivity < varied)
    assert not Detector(name, sensitivity).update(np.full(1000, constant))


def test_constant_errors_that_begin_are_seen() -> None:
    """With no error in the reference set ADWIN and KSWIN still see that all answers are wrong."""
    for name in ("adwin", "kswin"):
        detector = Detector(name, calibrate(name, np.zeros(200), run_length=1000, seed=1))
        assert not detector.update(np.zeros(300))
        assert detector.update(np.ones(300))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "ddm"}, r"name must be one of .*'adwin'.*, got 'ddm'"),
        ({"sample": []}, r"sample must hold at least one value, got 0"),
        ({"sample": [0.0, float("nan")]}, r"sample\[1\] must be finite, got nan"),
        ({"sample": [[0.0, 1.0]]}, r"sample must have the shape \(n,\), got \(1, 2\)"),
        ({"sample": ["x"]}, r"sample must be numbers: .*'x'"),
        ({"run_length": 99}, r"run_length must be in 100 \.\.\. 100000, got 99"),
        ({"run_length": 100_001}, r"run_length must be in 100 \.\.\. 100000, got 100001"),
        ({"run_length": 1000.5}, r"run_length must be a whole number, got 1000\.5"),
        ({"seed": -1}, r"seed must be in .*, got -1"),
    ],
)
def test_bad_calibration_is_refused(change: dict[str, Any], message: str) -> None:
    """The error names the argument and its value."""
    arguments: dict[str, Any] = {"name": "adwin", "sample": [0, 1], "run_length": 1000, "seed": 1}
    with pytest.raises(ValueError, match=message):
        calibrate(**(arguments | change))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ddm", 0.1), r"name must be one of .*, got 'ddm'"),
        (("adwin", 0.0), r"sensitivity of adwin must be in \(0, 1\], got 0\.0"),
        (("kswin", 1.5), r"sensitivity of kswin must be in \(0, 1\], got 1\.5"),
        (("page-hinkley", -3.0), r"sensitivity of page-hinkley must be positive.*, got -3\.0"),
        (("page-hinkley", float("inf")), r"sensitivity of page-hinkley must be .*, got inf"),
        (("adwin", "high"), r"sensitivity of adwin must be .*, got 'high'"),
        (("adwin", 0.1, -7), r"seed must be in .*, got -7"),
    ],
)
def test_bad_detector_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    """The error names the argument and its value."""
    with pytest.raises(ValueError, match=message):
        Detector(*arguments)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 1.0, float("inf")], r"values\[2\] must be finite, got inf"),
        ([[1.0]], r"values must have the shape \(n,\), got \(1, 1\)"),
        (3.0, r"values must have the shape \(n,\), got \(\)"),
    ],
)
@pytest.mark.parametrize("name", DETECTORS)
def test_bad_batch_is_refused_whole(name: Any, values: Any, message: str) -> None:
    """A batch with one bad value leaves the detector as it was."""
    detector = Detector(name, SENSITIVE[name])
    detector.update(np.array([0.25]))
    with pytest.raises(ValueError, match=message):
        detector.update(values)
    assert detector.to_state()["values"] == [0.25]
    assert not detector.update(np.array([]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "ddm"}, r"name must be one of .*, got 'ddm'"),
        ({"fired": -1}, r"fired must be in .*, got -1"),
        ({"values": [1.0, None]}, r"values(\[1\] must be finite, got nan| must be numbers)"),
        ({"values": [0.0] * 5120}, r"values must be fewer than 5120, got 5120"),
    ],
)
def test_bad_state_is_refused(change: dict[str, Any], message: str) -> None:
    """A state that no detector can have is refused, and the field is named."""
    with pytest.raises(ValueError, match=message):
        Detector.from_state(Detector("adwin", 0.1).to_state() | change)


def test_state_with_a_part_missing_is_refused() -> None:
    """The missing field is named."""
    state = Detector("adwin", 0.1).to_state()
    del state["values"]
    with pytest.raises(ValueError, match=r"state must hold \['values'\]"):
        Detector.from_state(state)


def test_missing_river_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without River the module imports, and using it says what to install."""
    monkeypatch.setitem(sys.modules, "river", None)
    wanted = r"pip install 'bento-selfheal\[detectors\]'"
    with pytest.raises(SettingsError, match=wanted):
        Detector("adwin", 0.1)
    for sample in (np.zeros(5), np.array([0.0, 1.0])):
        with pytest.raises(SettingsError, match=wanted):
            calibrate("kswin", sample, run_length=1000, seed=1)
