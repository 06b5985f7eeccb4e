"""The newest rows: a line hears of them, serves in their context, and is judged in that of then."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rigs import BATCH, Live, drifting, live, taken_back

from bento_selfheal.core.records import Promotion, PromotionKind
from bento_selfheal.experts.kinds.context import NEWEST, context_of, middle
from bento_selfheal.healing.challenger.newest import NewestRows
from bento_selfheal.packaging.package import Package


def test_the_newest_are_told_once(package: Package) -> None:
    """Too few rows say nothing; enough of them are told once, and again when others have come."""
    newest, (rows, _) = NewestRows(package), drifting()
    newest.take(rows[: NEWEST - 1], 1.0)
    assert newest.inputs() is None
    newest.take(rows[:500], 2.0)
    told = newest.inputs()
    assert told is not None
    assert torch.equal(told, package.embed(rows[500 - NEWEST : 500])[:, -package.inputs :])
    assert newest.inputs() is None
    newest.take(rows[:1], 3.0)
    assert newest.inputs() is not None


def test_restored(package: Package) -> None:
    """Restored, it tells the same; the state of an earlier release is taken, and tells nothing."""
    first, again, (rows, _) = NewestRows(package), NewestRows(package), drifting()
    first.take(rows, 1.0)
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


def heals_no_more(ran: Live) -> None:
    pipeline = ran.rig.pipeline
    pipeline.healer.heal = lambda *_: None  # type: ignore[method-assign]
    pipeline.healer.try_challenger = lambda *_: None  # type: ignore[method-assign]


def refreshes(ran: Live) -> list[Promotion]:
    return [p for p in ran.rig.done.promotions if p.kind is PromotionKind.REFRESH]


def test_what_serves_hears_of_new_rows_between_heals(package: Package) -> None:
    """A proven line whose next heal is long in coming is told what the newest rows are like: its
    snapshot has the same weights, and rows that come then are judged in that context."""
    ran = live(package, recipe="race", replay_rate=0.05)
    heals_no_more(ran)
    p, before = ran.rig.pipeline.parts, len(ran.rig.done.promotions)
    weights = p.lineage.champion.adapter_state()
    rows, labels = drifting(seed=3, clean=0, drifted=2 * BATCH)
    ran.send(rows + 1, labels)
    told = ran.rig.done.promotions[before:]
    assert {one.kind for one in told} == {PromotionKind.REFRESH}
    assert told[-1].version == p.lineage.serving_version
    served = ran.rig.memory.kept[told[-1].tag]
    moved = {name for name, value in served.items() if not torch.equal(value, weights[name])}
    assert moved
    assert all(name.endswith(".context") for name in moved)
    inputs = package.embed(rows[-NEWEST:] + 1)[:, -package.inputs :]
    race = p.line.challenger.race
    assert race is not None
    heard = middle(race.mixture().scale(package.embed(rows[-NEWEST:] + 1))[:, -inputs.shape[1] :])
    assert torch.allclose(served[sorted(moved)[0]], heard)
    now = p.line.challenger.context(np.asarray([ran.requests + 1]))
    assert now is not None
    assert torch.allclose(now[0], heard)


@pytest.mark.parametrize("word", ["pause", "observe"])
def test_nothing_is_refreshed_that_an_operator_holds(package: Package, word: str) -> None:
    """While paused or observed, what serves stays as it is."""
    ran = live(package, recipe="race", replay_rate=0.05)
    heals_no_more(ran)
    ran.rig.pipeline.apply_command(word)
    before = len(refreshes(ran))
    ran.send(*drifting(seed=3, clean=0, drifted=2 * BATCH))
    assert len(refreshes(ran)) == before


def test_nothing_is_refreshed_when_no_label_comes(package: Package) -> None:
    """Where no label tells any more whether the line does any good, its context stays."""
    ran = live(package, recipe="race", replay_rate=0.05)
    p = ran.rig.pipeline.parts
    ran.delay = 10**9
    silent = (p.settings.tuning.unlabelled_batches + 2) * p.settings.tuning.batch_size
    ran.send(*drifting(seed=3, clean=0, drifted=silent))
    before = len(refreshes(ran))
    assert before
    ran.send(*drifting(seed=4, clean=0, drifted=silent))
    assert len(refreshes(ran)) == before


def test_a_line_that_was_taken_back_is_not_refreshed(package: Package) -> None:
    """What it replaced serves as it served."""
    ran = live(package)
    taken_back(ran)
    assert ran.rig.moves()[-1].kind is PromotionKind.ROLLBACK
    assert ran.rig.done.promotions[-1].kind is PromotionKind.ROLLBACK


def test_refreshes_keep_their_distance(package: Package) -> None:
    """However fast rows come, what serves is told once a second at the most."""
    ran = live(package, recipe="race", replay_rate=0.05)
    heals_no_more(ran)
    before, ran.pace = len(refreshes(ran)), 0.25
    ran.requests *= 4  # so that time goes on
    ran.send(*drifting(seed=3, clean=0, drifted=40 * BATCH))
    assert 5 <= len(refreshes(ran)) - before <= 11
