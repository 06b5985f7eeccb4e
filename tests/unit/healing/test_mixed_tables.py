"""Healing a model of a mixed table: its signals name the column, and it learns what changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mixed import COLUMNS, NAMES, codes, flights, packaged
from rigs import BATCH, Live, Rig, settings_of

from bento_selfheal.healing.drift.signals import Signals
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.training import Training
from bento_selfheal.rules import parse_rule
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


@pytest.mark.parametrize(
    ("place", "change", "named"),
    [
        (0, lambda _: None, "speed (missing)"),
        (3, lambda _: "hail", "sky (unseen)"),
        (3, lambda sky: "fog" if sky == "rain" else sky, "sky"),
        (2, lambda _: None, "at night (missing)"),
    ],
)
def test_what_changes_is_named(place: int, change: Callable[[Any], Any], named: str) -> None:
    """A sensor that falls silent, a category that nobody knew, and one that comes more often are
    signals with their names, within three batches and in all that tells of signals."""
    rows, labels = flights(3 * BATCH, seed=3)
    ran = Live(Rig(packaged()))
    changed = [[*row[:place], change(row[place]), *row[place + 1 :]] for row in rows]
    ran.send(codes(changed), np.asarray([label == "late" for label in labels]))
    signals = ran.rig.status()["signals"]
    assert signals["differing"][0] == named
    assert signals["drifting"]
    assert signals["distance"] > signals["distance_limit"]
    assert named in ran.rig.pipeline.parts.drift.signals.reason


def test_rules_of_every_kind_conflict_and_are_judged() -> None:
    """Rules on a category, a gap, a switch and a date are packaged, trained with, compared with
    answers, and judged on labels, as rules on numbers are."""
    texts = ["sky == fog -> late", "speed is missing -> late", "at night == true -> in time",
             "weekday of day == Sunday -> late", "speed < 120 -> late"]  # fmt: skip
    rows, labels = flights(1000)
    rules = [parse_rule(text, ["in time", "late"], COLUMNS) for text in texts]
    made = package_model(
        "ruled", codes(rows), labels, features=NAMES, columns=COLUMNS, rules=rules,
        training=Training(epochs=3, rule_weight=0.3),
    )  # fmt: skip
    again = open_package(made.tag)
    assert again.info.rules == rules
    rows, labels = flights(4 * BATCH, seed=8)
    ran = Live(Rig(again))
    ran.send(codes(rows), np.asarray([label == "late" for label in labels]))
    status = ran.rig.status()
    assert status["signals"]["conflicts"] > 0
    fog, gap, night, sunday, slow = status["rules"]
    assert fog["rule"] == "sky == fog -> class 1"
    assert 0.6 < fog["precision"] < 1
    assert fog["coverage"] == pytest.approx(1 / 3, abs=0.12)
    assert gap["coverage"] == pytest.approx(0.2, abs=0.1)
    assert night["coverage"] == pytest.approx(0.5, abs=0.12)
    assert sunday["coverage"] == pytest.approx(1 / 7, abs=0.05)
    assert slow["coverage"] > 0


def test_calm_rows_are_calm() -> None:
    """Rows like those of training, gaps included, are no drift."""
    rows, labels = flights(30 * BATCH, seed=4)
    ran = Live(Rig(packaged(), conflict_min=1000, error_drop=1.0))
    ran.send(codes(rows), np.asarray([label == "late" for label in labels]))
    assert ran.rig.status()["signals"]["differing"] == []
    assert not [e for e in ran.rig.done.events if e.kind == "drifting"]


def test_the_window_survives_a_restart() -> None:
    """A restarted runner goes on from the batches that it has seen, and one that an earlier
    release stopped, which watched missing values as numbers, begins with an empty window."""
    rows, _ = flights(12 * BATCH, seed=3)
    settings, made = settings_of(), packaged()
    ran, again, fresh = (Signals(made, settings, made.rules()) for _ in range(3))
    answers = np.zeros(BATCH, dtype=np.float32)
    batches = np.split(codes(rows), 12)
    for batch in batches[:7]:
        ran.rows(batch, answers)
    kept = json.loads(json.dumps(ran.state()))
    again.restore(kept)
    for batch in batches[7:]:
        for one in (ran, again):
            one.rows(batch, answers)
    assert again.distances.scores() == ran.distances.scores()
    assert again.reading == ran.reading
    older = {k: v for k, v in kept.items() if k != "distances"} | {"fidi": [[0.0] * 9] * 5}
    fresh.restore(older)
    fresh.rows(batches[0], answers)
    assert fresh.fidi.scores() == {} == fresh.distances.scores()
