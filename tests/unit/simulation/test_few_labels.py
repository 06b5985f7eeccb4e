"""Streams of whose rows only some are looked at, offline."""

from __future__ import annotations

import numpy as np
import pytest

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.demo import demo_stream


def after(package: Package, batches: int = 30, **policy: object) -> Backtest:
    """The demo's stream under a policy."""
    run = Backtest(package, Settings(**policy))  # type: ignore[arg-type]
    for _ in run.run(demo_stream(batches, 3.5, 42)):
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


def test_explored_rows_heal(package: Package) -> None:
    """With a share of exploration it heals, and the figures that are shown are those of all rows."""
    run = after(package, 60, review="capacity", review_explored=0.2)
    status = run.pipeline.status()
    assert status["promotions"] > 0
    shown, truth = status["champion"]["accuracy"], run.correct("champion").mean()
    assert shown == pytest.approx(truth, abs=0.04)
    assert status["labels"]["joined"] < 0.35 * status["predicted_rows"]
    rows = status["review"]["rows"]
    assert rows["never"] == 0
    assert rows["by_chance"] == pytest.approx(0.2 * 0.95 * status["predicted_rows"], rel=0.2)


def test_a_checkpoint_keeps_what_labels_stand_for(package: Package) -> None:
    """A pipeline that goes on from its checkpoint has the figures, weights included."""
    run = after(package, review="capacity", review_explored=0.2)
    again = Backtest(package, Settings(review="capacity", review_explored=0.2))
    restore(again.pipeline, dump(run.pipeline))
    one, two = run.pipeline.status(), again.pipeline.status()
    for name in ("champion", "lift", "review", "operating_point"):
        assert one[name] == two[name]
    assert np.array_equal(
        run.parts.policy.calibration._weights, again.parts.policy.calibration._weights
    )
