"""Labels of one class only prove nothing; a class that is rare is none of that."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.evidence.one_sided import OneSided
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.demo import demo_stream


@dataclass
class World:
    """A stream of rows: how often class 1 comes, what is said of it, and whose label comes."""

    positives: float
    said: float
    """Mean probability of class 1 that is answered"""
    reference: float
    """Share of class 1 in the reference set"""

    def watch(self) -> OneSided:
        labels = (np.arange(1000) < 1000 * self.reference).astype(np.float32)
        package: Any = SimpleNamespace(
            info=SimpleNamespace(classes=["no", "yes"]), reference_labels=labels
        )
        return OneSided(package, None)

    def run(self, watch: OneSided, rows: int, chance: tuple[float, float], seed: int = 0) -> float:
        """Stream rows whose labels come with a chance by class; share of batches that are
        one-sided."""
        generator, found, batches = np.random.default_rng(seed), 0, 0
        open_labels: list[float] = []
        for _ in range(rows // 25):
            truth = generator.random(25) < self.positives
            watch.answered(np.full(25, self.said, np.float32))
            labelled = generator.random(25) < np.where(truth, chance[1], chance[0])
            open_labels += truth[labelled].tolist()
            if len(open_labels) >= 25:
                watch.labelled(np.asarray(open_labels, dtype=np.float32))
                batches, found = batches + 1, found + bool(watch.reason)
                open_labels = []
        return found / max(batches, 1)


FRAUD = World(0.15, 0.2, 0.15)
RARE = World(0.005, 0.005, 0.005)
BALANCED_TRAINING = World(0.005, 0.07, 0.5)


@pytest.mark.parametrize("world", [FRAUD, RARE, BALANCED_TRAINING])
@pytest.mark.parametrize("share", [1.0, 0.2])
def test_labels_at_random(world: World, share: float) -> None:
    """All rows or some at random: hardly any batch is held, however rare the class, also where the
    model was trained on as many rows of both."""
    for seed in range(3):
        assert world.run(world.watch(), int(40_000 / share), (share, share), seed) < 0.03


@pytest.mark.parametrize("world", [FRAUD, RARE])
@pytest.mark.parametrize("strays", [0.0, 0.001])
def test_positives_only(world: World, strays: float) -> None:
    """Where class 1 alone is reported, the labels are no evidence, and it is said what to do; a
    stray label of the other class makes no difference."""
    watch = world.watch()
    chance = (strays * world.positives, 0.9)
    assert world.run(watch, int(20 / world.positives), chance) <= 1
    assert world.run(watch, int(600 / world.positives), chance) == 1
    assert watch.holds
    assert "only class yes is labelled" in watch.reason
    assert "`unreported`" in watch.reason


def test_rows_of_one_class_for_a_while() -> None:
    """All rows are labelled, and for a while all are of one class: that is how they come, and
    nothing is held."""
    watch = FRAUD.watch()
    FRAUD.run(watch, 2000, (1, 1))
    for _ in range(8):
        watch.answered(np.full(25, 0.2, np.float32))
        assert watch.labelled(np.zeros(25, dtype=np.float32)) == {}
        assert watch.objection == ""


@pytest.mark.parametrize("stays", [0, 1])
def test_a_report_that_ends(stays: int) -> None:
    """Every label came, and then those of one class alone: nothing is promoted on them; once all
    come again everything goes on."""
    watch = FRAUD.watch()
    FRAUD.run(watch, 20_000, (1, 1))
    held = FRAUD.run(watch, 10_000, (1.0, 0.0) if stays == 0 else (0.0, 1.0))
    assert held > 0.5
    assert f"only class {('no', 'yes')[stays]} is labelled" in watch.objection
    FRAUD.run(watch, 20_000, (1, 1))
    assert watch.objection == ""


def test_first_labels() -> None:
    """While every label there ever was is of one class, nothing is promoted on them."""
    watch = FRAUD.watch()
    watch.answered(np.full(100, 0.2, np.float32))
    watch.labelled(np.ones(3, dtype=np.float32))
    assert "all 3 labels so far" in watch.objection
    assert watch.reason == ""
    watch.labelled(np.zeros(1, dtype=np.float32))
    assert watch.objection == ""


def test_checkpoint() -> None:
    """It goes on from a checkpoint as it would have."""
    one, two = FRAUD.watch(), FRAUD.watch()
    FRAUD.run(one, 3000, (0, 1))
    two.restore(one.state())
    assert two.state() == one.state()
    assert two.holds


def positives_alone(package: Package, **more: Any) -> tuple[Backtest, NDArray[np.int64]]:
    """The article's drift, of which frauds alone are reported."""
    stream = demo_stream(60, 5, 2.2, 42)
    run = Backtest(package, Settings(batch_size=100, **more))
    for _ in run.run(stream, labelled=stream.labels == 1):
        pass
    return run, stream.labels


def test_nothing_is_promoted(package: Package) -> None:
    """With frauds alone reported nothing is healed into service, the threshold stays, as many rows
    are flagged as the frozen model flags, and status and event say what is missing."""
    run, _ = positives_alone(package)
    status = run.pipeline.status()
    assert status["promotions"] == 0
    assert status["one_sided"]["alarm"]
    assert "`unreported`" in status["one_sided"]["reason"]
    assert [e.kind for e in run.events].count("one_sided") == 1
    np.testing.assert_array_equal(run.answers("champion"), run.answers("frozen"))
    assert status["labelled_batches"] <= 2


def test_unreported_heals(package: Package) -> None:
    """With the setting the same labels heal, as all labels would, and every figure is of rows of
    the same age, those without a label among them."""
    waits = {"class": 0, "after": "3s"}
    run, labels = positives_alone(package, unreported=waits)
    status = run.pipeline.status()
    assert status["promotions"] >= 1
    assert not status["one_sided"]["alarm"]
    assert status["unreported"]["age_seconds"] >= 3.0
    tail = slice(-2000, None)
    assert run.correct("champion")[tail].mean() > run.correct("frozen")[tail].mean() + 0.1
    counted = labels[: status["unreported"]["rows"]]
    assert status["unreported"]["unreported"] == int((counted == 0).sum())
