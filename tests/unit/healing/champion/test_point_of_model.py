"""The operating point belongs to the model that serves: it changes with a rollback, at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rigs import BATCH, Live, Rig, drifting, live, taken_back

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import OperatingPoint, PointKind, Promotion, PromotionKind
from bento_selfheal.healing.champion.operating_point import ThresholdCalibration
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import cost_of
from bento_selfheal.scoring.probabilities import predict_probabilities
from bento_selfheal.scoring.scores import Scores

COSTS = Thresholds(miss_cost=1.0, alarm_cost=4.0)


def asked_back(ran: Live, version: int) -> None:
    """An operator's rollback."""
    snapshot = ran.rig.pipeline.parts.history.snapshots[version]
    ran.rig.pipeline.adopt(
        Promotion(PromotionKind.ROLLBACK, version, snapshot.tag, "ab", "asked", 0.0, seq=999)
    )
    ran.rig.collect()


def cost(ran: Live, threshold: float, rows: NDArray[np.float32], labels: NDArray[Any]) -> float:
    """Cost a row of what serves at a threshold."""
    answers = predict_probabilities(ran.rig.pipeline.parts.lineage.champion, rows)
    return cost_of(Scores.of(answers, labels, threshold), COSTS)


@pytest.mark.parametrize("paused", [False, True])
def test_operators_rollback(package: Package, paused: bool) -> None:
    """After an operator's rollback the threshold is the one that the labelled rows at hand ask for
    of the model that serves now, not of the one that was left; also while paused."""
    ran = live(package, thresholds=COSTS)
    p = ran.rig.pipeline
    p.parts.controls.paused = paused
    assert ran.rig.status()["serving"]["version"] != 1
    left = p.parts.policy.point.threshold
    asked_back(ran, 1)
    expected = ThresholdCalibration()
    rows = p.parts.buffer.since(0)
    answers = predict_probabilities(package.model, rows.features)
    expected.labelled(answers, answers, rows.labels)
    assert p.parts.policy.point == expected.point(COSTS)
    assert p.parts.policy.point.threshold != left


def test_promotion_brings_its_own_point(package: Package) -> None:
    """With a capacity, the threshold that a promotion brings is that of the promoted model, not of
    the one before: no promotion floods the desk."""
    ran = Live(Rig(package, thresholds=Thresholds(capacity=50)))
    rows, labels = drifting(drifted=1200)
    for at in range(0, len(rows), BATCH):
        before = len(ran.rig.done.promotions)
        ran.send(rows[at : at + BATCH], labels[at : at + BATCH])
        for promotion in ran.rig.done.promotions[before:]:
            assert promotion.operating_point is not None
            model = ran.rig.memory.load(promotion.tag, "")
            newest = predict_probabilities(model, rows[max(at - 300, 0) : at])
            share = float((newest >= promotion.operating_point.threshold).mean())
            assert share <= 0.12
    assert len(ran.rig.done.promotions) >= 2


@pytest.mark.parametrize("answered", [0, 1, 25, 60, 2000])
def test_capacity_right_after_a_promotion(answered: int) -> None:
    """However few answers the promoted model has given, its threshold flags what the capacity
    allows: it never falls back to 0.5."""
    draw = np.random.default_rng(1)
    calibration = ThresholdCalibration()
    before = draw.random(400) * 0.4
    calibration.labelled(before, before, np.zeros(400))
    promoted = calibration.of_challenger()
    promoted.answered(draw.random(answered) * 0.4)
    point = promoted.point(Thresholds(capacity=50))
    assert point.kind is PointKind.CAPACITY
    assert (draw.random(5000) * 0.4 >= point.threshold).mean() == pytest.approx(0.05, abs=0.02)


def test_labels_while_paused(package: Package) -> None:
    """While paused the threshold follows the labels: once the drift has passed, it is the one for
    the rows of today."""
    ran = live(package, thresholds=COSTS)
    ran.rig.pipeline.parts.controls.paused = True
    asked_back(ran, 1)
    ran.send(*drifting(seed=7, clean=3000, drifted=0))
    rows, labels = drifting(seed=8, clean=3000, drifted=0)
    best = min(cost(ran, float(t), rows, labels) for t in np.linspace(0.01, 1.1, 110))
    assert cost(ran, ran.rig.pipeline.parts.policy.point.threshold, rows, labels) <= best + 0.02


def test_every_promotion_carries_its_point(package: Package) -> None:
    """A promotion, and a rollback that the runner decides on, are written with the point that
    comes into force with them."""
    ran = live(package, thresholds=COSTS)
    assert ran.rig.moves()
    before = len(ran.rig.moves())
    taken_back(ran)
    back = ran.rig.moves()[before]
    assert back.kind is PromotionKind.ROLLBACK
    assert all(p.operating_point is not None for p in ran.rig.moves())
    assert back.operating_point is not None
    assert back.operating_point.kind is PointKind.COSTS
    assert back.operating_point != ran.rig.moves()[before - 1].operating_point


def test_an_unverified_point_ends(package: Package) -> None:
    """What no label has verified ends with a rollback as it ends with a promotion."""
    ran = Live(Rig(package), delay=10**9)
    ran.send(*drifting(drifted=600))
    assert ran.rig.pipeline.parts.policy.point.kind is PointKind.UNVERIFIED
    asked_back(ran, 1)
    assert ran.rig.pipeline.parts.policy.point == OperatingPoint()


def test_rows_that_it_was_trained_on(package: Package) -> None:
    """The rows that a snapshot was trained on say nothing of its threshold: with too few others
    the costs alone decide, also after a restart."""
    ran = live(package, thresholds=COSTS)
    newest = max(s.version for s in ran.rig.pipeline.parts.history.snapshots.values() if s.heal)
    other = Rig(package, ran.rig.memory, adopt=False, thresholds=COSTS)
    restore(other.pipeline.parts, dump(ran.rig.pipeline.parts))
    for rig in (ran.rig, other):
        ran.rig = rig
        asked_back(ran, newest)
        assert rig.pipeline.parts.policy.point.threshold == COSTS.bayes_threshold


def test_a_fresh_pipeline_goes_on_with_the_point(package: Package) -> None:
    """A pipeline that begins anew takes the point of the promotion that serves."""
    rig = Rig(package, thresholds=COSTS)
    point = OperatingPoint(0.7, PointKind.COSTS)
    fresh = Rig(package, rig.memory, adopt=False, thresholds=COSTS)
    fresh.pipeline.adopt(
        Promotion(PromotionKind.PROMOTE, 1, "m:1", "ab", "x", 0.0, seq=3, operating_point=point)
    )
    assert fresh.pipeline.parts.policy.point == point
