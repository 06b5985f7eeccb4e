"""Experts that know what the rows around a row are like, before any of them has a label."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bento_selfheal.experts.kinds.context import NEWEST, ContextExpert
from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.mixture import FROZEN, LAYER, REACH, Mixture, Voice, log_odds
from bento_selfheal.experts.race import Race
from bento_selfheal.experts.table import INPUT_EXPERTS

WIDTH, CLASSES, INPUTS = 6, 2, 4
NAMES = [name for name, make in INPUT_EXPERTS.items() if isinstance(make(2, 2), ContextExpert)]
each = pytest.mark.parametrize("name", NAMES)


def rows_of(n: int, draw: torch.Generator, offset: Tensor, share: float = 0.5) -> tuple[
    Tensor, Tensor
]:  # fmt: skip
    """Two classes around an offset; the share of the second one is given."""
    labels = (torch.rand(n, generator=draw) < share).long()
    hidden = torch.randn(n, WIDTH, generator=draw) + (2 * labels.unsqueeze(1) - 1)
    return hidden + offset, labels


def taught(name: str, wanders: float, swings: bool) -> tuple[ContextExpert, torch.Generator]:
    """An expert that learned 60 times of 25 rows, each in the context of its time."""
    expert, draw = INPUT_EXPERTS[name](INPUTS, CLASSES), torch.Generator().manual_seed(1)
    assert isinstance(expert, ContextExpert)
    for _ in range(60):
        offset = wanders * torch.randn(WIDTH, generator=draw)
        share = 0.1 + 0.8 * float(torch.rand(1, generator=draw)) if swings else 0.5
        around, _ = rows_of(NEWEST, draw, offset, share)
        hidden, labels = rows_of(25, draw, offset, share)
        expert.surround(around)
        expert.learn(expert.view(hidden), torch.zeros(25, CLASSES), labels, torch.ones(25))
    return expert, draw


def accuracy(expert: ContextExpert, hidden: Tensor, labels: Tensor) -> float:
    said = expert.ask(hidden, torch.zeros(len(hidden), CLASSES))
    return float((said.argmax(dim=1) == labels).float().mean())


@each
def test_follows_an_offset_without_labels(name: str) -> None:
    """Where every row has moved, the newest rows alone say how to read them."""
    expert, draw = taught(name, wanders=2.0, swings=False)
    offset = torch.full((WIDTH,), 2.5)
    hidden, labels = rows_of(1000, draw, offset)
    expert.surround(rows_of(NEWEST, draw, torch.zeros(WIDTH))[0])
    before = accuracy(expert, hidden, labels)
    expert.surround(rows_of(NEWEST, draw, offset)[0])
    assert accuracy(expert, hidden, labels) > max(0.8, before + 0.1)


@pytest.mark.parametrize("name", ["ridge-context", "random-features-context"])
def test_follows_a_moved_share_without_labels(name: str) -> None:
    """Where one class has become rare, the newest rows shift the odds before a label comes."""
    expert, draw = taught(name, wanders=0.0, swings=True)
    none = torch.zeros(WIDTH)
    # So near each other that the share matters.
    hidden, labels = rows_of(4000, draw, none, 0.1)
    expert.surround(rows_of(NEWEST, draw, none, 0.9)[0])
    before = accuracy(expert, hidden, labels)
    expert.surround(rows_of(NEWEST, draw, none, 0.1)[0])
    assert accuracy(expert, hidden, labels) > before + 0.01


@each
def test_rows_in_contexts_of_their_own(name: str) -> None:
    """A row that brings its context is answered as by an expert that hears of that one now."""
    expert, draw = taught(name, wanders=1.0, swings=False)
    hidden, _ = rows_of(40, draw, torch.zeros(WIDTH))
    odds = torch.zeros(40, CLASSES)
    contexts = torch.randn(40, INPUTS, generator=draw)
    said = expert.ask(hidden, odds, contexts)
    for i in range(0, 40, 13):
        expert.context = contexts[i]
        torch.testing.assert_close(expert.ask(hidden[i : i + 1], odds[:1]), said[i : i + 1])


@each
def test_strange_rows_move_nothing_far(name: str) -> None:
    """A tenth of the newest rows, however strange, leaves the context where the others are."""
    expert, draw = taught(name, wanders=0.0, swings=False)
    around, _ = rows_of(NEWEST, draw, torch.zeros(WIDTH))
    expert.surround(around)
    honest = expert.context
    around[::10] = 8.0
    expert.surround(around)
    assert float((expert.context - honest).abs().max()) < 1.0


def test_a_mixture_in_any_context() -> None:
    """In the context that it last heard, and for rows that bring their own, a mixture says what its
    voices say alone; through a snapshot it keeps what it heard."""
    draw = torch.Generator().manual_seed(5)
    voices, heard = {FROZEN: Voice(0.1, 0.5), LAYER: Voice(0.2, 0.7)}, torch.ones(INPUTS)
    for name in NAMES:
        expert, _ = taught(name, wanders=1.0, swings=False)
        expert.context = heard
        voices[name] = Voice(0.7 / len(NAMES), 1.4, expert)
    scales = torch.full((WIDTH,), 0.1), torch.full((WIDTH,), 2.0), torch.full((WIDTH,), REACH)
    mixture = Mixture(*scales, CLASSES, voices)
    hidden, _ = rows_of(50, draw, torch.zeros(WIDTH))
    frozen, layer = torch.softmax(torch.randn(2, 50, CLASSES, generator=draw), dim=2)
    scaled, odds = mixture.scale(hidden), log_odds(frozen)
    contexts = torch.randn(50, INPUTS, generator=draw)
    for context in (None, contexts):
        expected = torch.zeros(50, CLASSES)
        for name, voice in voices.items():
            said = {FROZEN: odds, LAYER: log_odds(layer)}.get(name)
            if voice.expert is not None:
                said = voice.expert.ask(scaled, odds, context)
            expected += voice.share * torch.softmax(voice.sharpness * said, dim=1)
        torch.testing.assert_close(mixture(hidden, frozen, layer, context), expected)
    again = Mixture.of(mixture.tensors(), WIDTH)
    assert torch.equal(again(hidden, frozen, layer), mixture(hidden, frozen, layer))


def test_a_race_hears_of_the_newest_rows() -> None:
    """What a race heard is in its mixture, its standing and its checkpoint; one without inputs
    does not want to know."""
    draw = torch.Generator().manual_seed(2)
    hidden, _ = rows_of(200, draw, torch.zeros(WIDTH))
    race = Race(hidden, CLASSES, INPUTS)
    race.surround(hidden[:NEWEST, -INPUTS:])
    standing, heard = race.standing(), race.context
    assert heard is not None
    race.surround(hidden[NEWEST : 2 * NEWEST, -INPUTS:])
    assert race.context is not None
    assert standing.context is not None
    assert torch.equal(standing.context, heard)
    assert not torch.equal(race.context, heard)
    again = Race(hidden, CLASSES, INPUTS)
    again.restore(race.state())
    assert again.context is not None
    assert torch.equal(again.context, race.context)
    assert Race(hidden, CLASSES).context is None


def test_training_rows_are_their_own_context() -> None:
    """Rows of a package, oldest first, are learned in the context of those before them: an offset
    that wandered in training is no news later."""
    draw = torch.Generator().manual_seed(3)
    parts = [rows_of(25, draw, torch.full((WIDTH,), 2 * torch.sin(torch.tensor(t / 4.0)).item()))
             for t in range(60)]  # fmt: skip
    hidden, labels = (torch.cat(columns) for columns in zip(*parts, strict=True))
    race = Race(hidden, CLASSES, INPUTS)
    even = torch.full((len(hidden), CLASSES), 0.5)
    race.study(Lesson(hidden, even, labels, torch.ones(len(hidden))))
    race.surround(hidden[-NEWEST:, -INPUTS:])
    rows, truth = rows_of(500, draw, torch.full((WIDTH,), 2 * torch.sin(torch.tensor(14.9)).item()))
    scaled = race.mixture().scale(rows)
    said = race.experts["ridge-apart"].ask(scaled, torch.zeros(500, CLASSES))
    assert float((said.argmax(dim=1) == truth).float().mean()) > 0.85
