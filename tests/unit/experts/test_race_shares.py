"""The race: shares follow what everybody said of labels that were new to all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bento_selfheal.experts.lesson import Lesson
from bento_selfheal.experts.mixture import FROZEN, Mixture
from bento_selfheal.experts.race import Asked, Race

WIDTH, CLASSES = 5, 2


def lesson(n: int, seed: int, sign: float = 1.0) -> Lesson:
    """Rows whose label is the sign of the first hidden value; the frozen model knows it nearly."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, WIDTH, generator=draw)
    labels = (sign * hidden[:, 0] > 0).long()
    frozen = torch.softmax(torch.stack([-hidden[:, 0], hidden[:, 0]], dim=1) * 2, dim=1)
    return Lesson(hidden, frozen, labels, torch.ones(n))


def race() -> Race:
    made = Race(lesson(300, 1).hidden, CLASSES)
    made.study(lesson(300, 2))
    made.examine(lesson(100, 3))
    return made


def shares_of(mixture: Mixture) -> dict[str, float]:
    return {name: voice.share for name, voice in mixture.voices.items()}


def test_frozen_leads_before_a_change() -> None:
    """While nothing has changed nobody takes the word from the frozen model for nothing."""
    shares = shares_of(race().mixture())
    assert shares[FROZEN] == max(shares.values())


def test_who_learns_takes_over() -> None:
    """When every label turns round, the frozen model has no say after a few hundred labels, and
    the mixture is right."""
    made = race()
    for seed in range(20):
        part = lesson(25, 100 + seed, sign=-1)
        made.score(part, part.frozen)
        made.learn(part)
    mixture, asked = made.mixture(), lesson(500, 9, sign=-1)
    assert FROZEN not in mixture.voices
    said = mixture(asked.hidden, asked.frozen, asked.frozen)
    assert float((said.argmax(dim=1) == asked.labels).float().mean()) > 0.9


def test_repeated_rows_prove_nothing() -> None:
    """Of labels without any rule, whoever knows them by heart is right when the same rows come
    again; it gets no say for it."""
    labels = torch.randint(2, (100,), generator=torch.Generator().manual_seed(1))
    known, loudest = replace(lesson(100, 7), labels=labels), []
    for knows in (True, False):
        made = race()
        for turn in range(20):
            scored = made.unknown(known, np.full(100, knows and turn > 0))
            made.score(scored, scored.frozen)
            made.learn(known)
        shares = shares_of(made.mixture())
        loudest.append(max(shares, key=lambda name: shares[name]))
    assert loudest[0] == FROZEN != loudest[1]


def test_rows_of_few_kinds_count() -> None:
    """Where rows are of few kinds already in the reference set, those that come again count."""
    few = torch.randint(2, (300, WIDTH), generator=torch.Generator().manual_seed(1)).float()
    part = lesson(25, 3)
    repeats = np.ones(25, dtype=bool)
    assert Race(few, CLASSES).unknown(part, repeats).weights.sum() == 25
    assert race().unknown(part, repeats).weights.sum() == 0


def test_judged_as_when_asked() -> None:
    """Labels that alternate in long runs and come a run late: who knows the newest ones looks
    right as it is now, and was wrong whenever it was asked. It gets no say."""
    made = race()
    for turn in range(16):
        standing = made.standing()
        sign = 1.0 if turn % 2 else -1.0
        for seed in range(8):  # known now, and of no use when the next run is asked
            part = lesson(25, 1000 + 10 * turn + seed, sign)
            made.score(part, part.frozen, asked=[Asked(slice(None), (standing, part.frozen))])
            made.learn(part)
    shares = shares_of(made.mixture())
    assert shares.get("softmax-fast", 0.0) < 0.2, shares


def test_another_race_is_refused() -> None:
    """A state without one of the experts is refused by its name."""
    state = {k: v for k, v in race().state().items() if not k.startswith("ridge.")}
    with pytest.raises(RuntimeError, match=r"the race has no ridge\.losses"):
        race().restore(state)


def test_goes_on_exactly() -> None:
    """Restored from its state, it comes to the same shares."""
    first, again = race(), race()
    for seed in range(5):
        part = lesson(25, seed, sign=-1)
        first.score(part, part.frozen)
        first.learn(part)
    again.restore(first.state())
    assert shares_of(again.mixture()) == shares_of(first.mixture())
    assert again.seen == first.seen == 125
