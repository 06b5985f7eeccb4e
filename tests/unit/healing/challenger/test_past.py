"""The past of a line: whoever races is judged as it was when the rows were asked."""

from __future__ import annotations

import numpy as np
import torch

from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.race import Race
from bento_selfheal.healing.challenger.past import MOST, Past
from bento_selfheal.model import ReflexiveLayer

WIDTH, CLASSES = 5, 2


def lesson(n: int = 25, seed: int = 0) -> Lesson:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, WIDTH, generator=draw)
    labels = (hidden[:, 0] > 0).long()
    return Lesson(hidden, torch.full((n, CLASSES), 0.5), labels, torch.ones(n))


def fresh() -> tuple[Past, ReflexiveLayer, Race]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Past(), ReflexiveLayer(WIDTH), Race(lesson(100).hidden, CLASSES)


def found(past: Past, asked: list[int]) -> list[tuple[int, int, int | None]]:
    """Begin, end and place of the moment of each run."""
    return [
        (run.start, run.stop, moment and moment.predictions)
        for run, moment in past.when(np.asarray(asked))
    ]


def test_moment_of_a_row() -> None:
    """A row belongs to the newest moment before it was asked; to none where it was asked before
    the first one, or came with its label."""
    past, layer, race = fresh()
    for place in (10, 20):
        past.keep(place, layer, race)
    assert found(past, [3, 10, 11, 20, 21, 25, -1]) == [
        (0, 2, None), (2, 4, 10), (4, 6, 20), (6, 7, None),
    ]  # fmt: skip


def test_old_moments_go() -> None:
    """What no row can belong to any more is not kept, and never more than so many."""
    past, layer, race = fresh()
    for place in range(0, 100, 10):
        past.keep(place, layer, race)
    found(past, [75, 76])
    assert [moment.predictions for moment in past.moments] == [60, 70, 80, 90]
    for place in range(100, 1000, 10):
        past.keep(place, layer, race)
    assert len(past.moments) <= MOST
    assert past.moments[-1].predictions == 990


def test_a_moment_does_not_learn() -> None:
    """What a moment says stays the same while the race learns on."""
    past, layer, race = fresh()
    past.keep(0, layer, race)
    asked = lesson(seed=4)
    odds = torch.zeros(25, CLASSES)
    [moment] = past.moments
    before = {k: e(asked.hidden, odds).clone() for k, e in moment.race.panel.experts.items()}
    for seed in range(5):
        race.learn(lesson(seed=seed))
    for name, expert in moment.race.panel.experts.items():
        assert torch.equal(before[name], expert(asked.hidden, odds)), name
        assert not torch.equal(before[name], race.experts[name](asked.hidden, odds)), name


def test_through_a_checkpoint() -> None:
    """Restored, it has the same moments, which say the same."""
    past, layer, race = fresh()
    for place in (10, 20):
        past.keep(place, layer, race)
        race.learn(lesson(seed=place))
    again, asked, odds = Past(), lesson(seed=4), torch.zeros(25, CLASSES)
    again.restore(past.state(), layer, race)
    assert [moment.predictions for moment in again.moments] == [10, 20]
    for ours, theirs in zip(past.moments, again.moments, strict=True):
        assert np.array_equal(ours.race.shares, theirs.race.shares)
        assert ours.race.sharpness == theirs.race.sharpness
        for name, expert in ours.race.panel.experts.items():
            said = theirs.race.panel.experts[name](asked.hidden, odds)
            assert torch.equal(expert(asked.hidden, odds), said), name
