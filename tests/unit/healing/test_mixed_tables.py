"""Healing a model of a mixed table: its signals name the column, and it learns what changed."""

from __future__ import annotations

import numpy as np
from mixed import codes, flights, packaged
from rigs import BATCH, Live, Rig, settings_of

from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream


def test_a_category_that_changes_its_meaning_is_healed() -> None:
    """When rain delays and no longer fog, what is served learns it, gaps and all."""
    package = packaged()
    rows, labels = flights(2500, seed=2, turned=True)
    late = np.asarray([label == "late" for label in labels], dtype=np.int64)
    run = Backtest(package, settings_of(recipe="race"))
    list(run.run(Stream(codes(rows), late, 100, 25)))
    right = run.correct("champion")[-1000:].mean()
    assert right > run.correct("frozen")[-1000:].mean() + 0.2
    assert right > 0.75


def test_gaps_and_unseen_levels_are_named() -> None:
    """A sensor that falls silent and a category that nobody knew are signals with their names."""
    rows, labels = flights(8 * BATCH, seed=3)
    late = np.asarray([label == "late" for label in labels])
    for place, value, named in ((0, None, "speed (missing)"), (3, "hail", "sky (unseen)")):
        ran = Live(Rig(packaged()))
        changed = [[*row[:place], value, *row[place + 1 :]] for row in rows]
        ran.send(codes(changed), late)
        assert ran.rig.pipeline.parts.drift.signals.reading.feature == named
        assert ran.rig.pipeline.parts.drift.signals.reading.drifting
