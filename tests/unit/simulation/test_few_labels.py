"""Streams of whose rows only some are looked at, offline."""

from __future__ import annotations

import json

import pytest

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.demo import demo_stream


def after(package: Package, batches: int = 30, **policy: object) -> Backtest:
    """The demo's stream under a policy."""
    run = Backtest(package, Settings(**policy))  # type: ignore[arg-type]
    for _ in run.run(demo_stream(batches, 5, 3.5, 42)):
        pass
    return run


def test_without_exploration_nothing_is_promoted(package: Package) -> None:
    """Of rows that are never looked at nothing is known: the status says of how many, and no
    challenger serves."""
    run = after(package, review="flagged")
    status = run.pipeline.status()
    assert status["promotions"] == 0
    assert status["heals"] > 0
    assert status["review"]["rows"]["never"] > 500
    assert "nothing is promoted" in status["review"]["known"]


@pytest.fixture(scope="module")
def explored(package: Package) -> Backtest:
    """A run of which one row in five is looked at by chance; only to be looked at."""
    return after(package, 40, review="capacity", review_explored=0.2)


def test_explored_rows_heal(explored: Backtest) -> None:
    """With a share of exploration it heals, and the figures shown are those of all rows."""
    status = explored.pipeline.status()
    assert status["promotions"] > 0
    shown, truth = status["champion"]["accuracy"], explored.correct("champion").mean()
    assert shown == pytest.approx(truth, abs=0.05)
    assert status["labels"]["joined"] < 0.35 * status["predicted_rows"]
    rows = status["review"]["rows"]
    assert rows["never"] == 0
    assert rows["by_chance"] == pytest.approx(0.2 * 0.95 * status["predicted_rows"], rel=0.2)


def test_a_checkpoint_keeps_what_labels_stand_for(explored: Backtest, package: Package) -> None:
    """Parts that go on from a checkpoint have the same figures and thresholds, weights included."""
    again = Backtest(package, Settings(review="capacity", review_explored=0.2)).parts
    now = explored.parts
    again.scoreboard.restore(now.scoreboard.state())
    again.policy.restore(json.loads(json.dumps(now.policy.state())))
    assert again.scoreboard.counts == now.scoreboard.counts
    assert again.scoreboard.advice.lift == now.scoreboard.advice.lift
    costs = Thresholds(miss_cost=5, alarm_cost=1)
    assert again.policy.calibration.point(costs) == now.policy.calibration.point(costs)
    assert set(now.policy.state()["calibration"]["weights"]) > {1.0}
