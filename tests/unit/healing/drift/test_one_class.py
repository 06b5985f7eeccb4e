"""A service that gives every row the same class raises an alarm of its own, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import BATCH, Rig

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.healing.drift.one_class import OneClass
from bento_selfheal.packaging.package import Package

EQUAL = Thresholds()


def answer(rig: Rig, probabilities: NDArray[np.float32], number: int) -> None:
    """One request that was answered like this."""
    rows = np.zeros((len(probabilities), len(rig.package.info.features)), dtype=np.float32)
    rig.take((
        PredictionRecord(number.to_bytes(12, "big"), rows, probabilities, 1, number, number), None
    ))  # fmt: skip


def same(value: float, rows: int = BATCH) -> NDArray[np.float32]:
    return np.full(rows, value, dtype=np.float32)


def mixed() -> NDArray[np.float32]:
    return np.tile(np.asarray([0.1, 0.9], dtype=np.float32), BATCH // 2)


@pytest.mark.parametrize(("told", "named"), [(0.1, 0), (0.9, 1)])
def test_nobody_or_everybody(package: Package, told: float, named: int) -> None:
    """Where the packaged model flags some 15 of 100, a hundred rows without an alarm, or with
    nothing else, are an event; it does not repeat, and the status shows it until it ends."""
    rig = Rig(package)
    answer(rig, mixed(), 1)
    for number in range(2, 7):
        answer(rig, same(told), number)
    [event] = [e for e in rig.done.events if e.kind == "one_class"]
    assert event.detail["class"] == package.info.classes[named]
    assert event.detail["rows"] >= 100
    shown = rig.status()["one_class"]
    assert shown["alarm"] is True
    assert shown["rows"] >= 5 * BATCH
    assert str(event.detail["rows"]) in shown["reason"]
    answer(rig, mixed(), 7)
    assert rig.status()["one_class"] == {"alarm": False, "rows": 1, "reason": ""}
    for number in range(8, 12):
        answer(rig, same(told), number)
    assert rig.kinds().count("one_class") == 2


def test_too_soon(package: Package) -> None:
    """Fewer than a hundred rows say nothing, however unlikely."""
    rig = Rig(package)
    answer(rig, same(0.9), 1)
    assert rig.status()["one_class"] == {"alarm": False, "rows": BATCH, "reason": ""}
    assert "one_class" not in rig.kinds()


def watched(package: Package, told: float, wanted: Thresholds, rows: int) -> str:
    alarm = OneClass(package)
    alarm.answered(same(told, rows), 0.5, wanted)
    return alarm.alarm


def test_what_is_asked_for_is_no_alarm(package: Package) -> None:
    """With a capacity of 5 in 1,000, or where a false alarm costs far more than a miss, hundreds
    of rows without an alarm are as asked; thousands with a capacity are not, nor is flagging
    everybody."""
    few, dear = Thresholds(capacity=5), Thresholds(alarm_cost=1e6, miss_cost=1)
    assert watched(package, 0.1, EQUAL, 400)
    assert not watched(package, 0.1, few, 400)
    assert not watched(package, 0.1, dear, 400)
    assert watched(package, 0.1, few, 5000)
    assert watched(package, 0.9, few, 400)
    assert not watched(package, 0.9, Thresholds(alarm_cost=1, miss_cost=1e6), 400)


def test_a_model_that_always_flagged_few(package: Package) -> None:
    """The rarer the packaged model itself names a class, the more rows without it it takes."""
    rare = replace(package, reference_rows=np.zeros_like(package.reference_rows))
    assert not watched(rare, float(package.baseline(rare.reference_rows)[0]), EQUAL, 10_000)


def test_goes_on_after_a_restart(package: Package) -> None:
    """The run is counted on from a checkpoint; one of an earlier release begins anew."""
    rig = Rig(package)
    answer(rig, same(0.1), 1)
    other = Rig(package, rig.memory, adopt=False)
    restore(other.pipeline.parts, dump(rig.pipeline.parts))
    assert other.status()["one_class"]["rows"] == BATCH
    answer(other, same(0.1, 2 * BATCH), 2)
    assert "one_class" in other.kinds()
    old = other.pipeline.parts.drift.state()
    del old["one_class"]
    other.pipeline.parts.drift.restore(old)
    assert other.status()["one_class"] == {"alarm": False, "rows": 0, "reason": ""}
