"""The newest rows: a line hears of them, serves in their context, and is judged in that of then."""

from __future__ import annotations

import numpy as np
import torch
from rigs import drifting, live

from bento_selfheal.experts.kinds.context import NEWEST, context_of, middle
from bento_selfheal.healing.challenger.newest import NewestRows
from bento_selfheal.packaging.package import Package


def test_the_newest_are_told_once(package: Package) -> None:
    """Too few rows say nothing; enough of them are told once, and again when others have come."""
    newest, (rows, _) = NewestRows(package), drifting()
    newest.take(rows[: NEWEST - 1])
    assert newest.inputs() is None
    newest.take(rows[:500])
    told = newest.inputs()
    assert told is not None
    assert torch.equal(told, package.embed(rows[500 - NEWEST : 500])[:, -package.inputs :])
    assert newest.inputs() is None
    newest.take(rows[:1])
    assert newest.inputs() is not None


def test_restored(package: Package) -> None:
    """Restored, it tells the same; the state of an earlier release is taken, and tells nothing."""
    first, again, (rows, _) = NewestRows(package), NewestRows(package), drifting()
    first.take(rows)
    again.restore(first.state())
    one, two = first.inputs(), again.inputs()
    assert one is not None
    assert two is not None
    assert torch.equal(one, two)
    again.restore({})
    assert again.inputs() is None


def test_what_serves_knows_the_rows_of_its_time(package: Package) -> None:
    """The context of what serves is that of the rows before its promotion, and the one that the
    race has been judged in since."""
    ran = live(package, recipe="race", replay_rate=0.05)
    line = ran.rig.pipeline.parts.line
    mixture = ran.rig.pipeline.parts.lineage.champion.mixture
    race = line.challenger.race
    assert mixture is not None
    assert race is not None
    voiced = {name: voice.expert for name, voice in mixture.voices.items() if voice.expert}
    served = context_of(voiced)
    if served is not None:
        assert race.context is not None
        assert torch.equal(served, race.context)
    asked = [entry for entry, prediction in ran.log if prediction is None]
    known = [
        middle(race.mixture().scale(package.embed(entry.features))[:, -package.inputs :])
        for entry in asked
    ]
    assert race.context is not None
    assert any(torch.allclose(race.context, one) for one in known)


def test_rows_are_judged_in_the_context_of_then(package: Package) -> None:
    """The context of a row is what the line had heard when the row was asked; of rows that were
    not asked, what it hears now."""
    challenger = live(package, recipe="race", replay_rate=0.05).rig.pipeline.parts.line.challenger
    past, race = challenger.past, challenger.race
    assert race is not None
    moments = past.moments
    assert moments
    asked = np.asarray([-1, moments[0].predictions + 1, moments[-1].predictions + 1])
    found = challenger.context(asked)
    assert found is not None
    for row, expected in zip(
        found, (race.context, moments[0].race.context, moments[-1].race.context), strict=True
    ):
        assert expected is not None
        assert torch.equal(row, expected)
    challenger.race = None
    assert challenger.context(asked) is None
