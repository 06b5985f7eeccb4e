"""The race end to end: it heals, its mixture goes through snapshots, and it is restored exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rigs import Rig, drifting, live
from safetensors.torch import load, save

from bento_selfheal.experts.mixture import FROZEN, LAYER, Mixture, Voice
from bento_selfheal.experts.race import LEAST_SHARE, Race
from bento_selfheal.healing.challenger.race_recipe import AWAKE, RaceRecipe
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import predict_probabilities


def test_heals(package: Package) -> None:
    """On a drifting stream the race is promoted, and what it serves beats the frozen model."""
    ran = live(package, recipe="race", replay_rate=0.05)
    board = ran.rig.pipeline.parts.scoreboard.counts
    assert board.promotions >= 1
    assert board.champion.accuracy > board.baseline.accuracy + 0.05
    assert ran.rig.pipeline.parts.lineage.champion.mixture is not None


def test_a_snapshot_says_the_same(package: Package) -> None:
    """A mixture that went through safetensors answers as before, frozen parts and all; the
    packaged model has not changed."""
    model = live(
        package, recipe="race", replay_rate=0.05
    ).rig.pipeline.parts.line.challenger.answers
    rows, _ = drifting(seed=4)
    before = package.baseline(rows)
    again = package.model.with_adapter(load(save(model.adapter_state())))
    np.testing.assert_array_equal(
        predict_probabilities(again, rows), predict_probabilities(model, rows)
    )
    np.testing.assert_array_equal(package.baseline(rows), before)
    assert package.model.mixture is None


def test_shares(package: Package) -> None:
    """Shares sum to 1, and nobody with next to nothing is asked at all."""
    race = live(package, recipe="race", replay_rate=0.05).rig.pipeline.parts.line.challenger.race
    assert race is not None
    shares = [voice.share for voice in race.mixture().voices.values()]
    assert abs(sum(shares) - 1) < 1e-9
    assert min(shares) >= LEAST_SHARE


def test_restored_goes_on_exactly(package: Package) -> None:
    """A runner that took up a checkpoint in the middle of a race comes to the same adapters."""
    whole = live(package, recipe="race", replay_rate=0.05)
    half = len(whole.log) // 2
    first = Rig(package, recipe="race", replay_rate=0.05)
    for entry in whole.log[:half]:
        first.take(entry)
    second = Rig(package, first.memory, adopt=False, recipe="race", replay_rate=0.05)
    restore(second.pipeline.parts, dump(first.pipeline.parts))
    for entry in whole.log[half:]:
        second.take(entry)
    ours, theirs = (
        rig.pipeline.parts.line.challenger.answers.adapter_state() for rig in (whole.rig, second)
    )
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_older_labels_are_learned_once(package: Package) -> None:
    """The first heal of a line learns the labels from before it; heals that are asked for without
    a new label do not learn them again, nor after a restart of the runner."""
    rig = live(package, recipe="race").rig
    line = rig.pipeline.parts.line
    line.restart()

    def known(rig: Rig) -> torch.Tensor:
        race = rig.pipeline.parts.line.challenger.race
        assert race is not None
        return race.state()["softmax.buffer.weight"]

    packaged = known(rig)
    assert rig.pipeline.heal_now()
    once = known(rig)
    assert not torch.equal(once, packaged)
    other = rig.copy()
    for again in (rig, other):
        assert again.pipeline.heal_now()
        assert torch.equal(known(again), once)


@pytest.mark.parametrize(
    ("seen", "rounds", "silent", "rests"),
    [
        (550, AWAKE, True, True),
        (600, AWAKE, True, False),
        (550, AWAKE - 1, True, False),
        (550, AWAKE, False, False),
    ],
    ids=["silent", "its turn", "the world moved", "heard"],
)
def test_a_silent_layer_rests(
    package: Package, seen: int, rounds: int, silent: bool, rests: bool
) -> None:
    """A layer that says nothing sits out every second round; all experts learn in each."""
    parts = live(package, recipe="race").rig.pipeline.parts
    challenger, race = parts.line.challenger, parts.line.challenger.race
    mixture = challenger.answers.mixture
    assert race is not None
    assert mixture is not None
    voices = {FROZEN: Voice(0.5, 1.0)} | ({} if silent else {LAYER: Voice(0.5, 1.0)})
    challenger.answers.mixture = Mixture(**mixture.scales, classes=2, voices=voices)
    challenger.rounds, challenger.seen, race.seen = rounds, seen, seen - 25
    layer, known = challenger.model.layer_state(), race.state()["softmax.buffer.weight"]
    losses = RaceRecipe(parts.settings.tuning).heal(
        challenger, parts.buffer.rows(), parts.rules, torch.Generator().manual_seed(1)
    )
    now = challenger.model.layer_state()
    assert all(torch.equal(now[name], layer[name]) for name in now) == rests == (not losses)
    assert not torch.equal(race.state()["softmax.buffer.weight"], known)


def test_a_batch_is_never_larger_than_asked(package: Package) -> None:
    """`batch_size` bounds what a race takes for a batch of labels."""
    assert Rig(package, recipe="race", batch_size=10).pipeline.parts.line.batch_labels == 10
    assert Rig(package, recipe="race").pipeline.parts.line.batch_labels == 25


def test_the_checkpoint_of_another_race(
    package: Package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a checkpoint with other experts all but these is taken up, and the log says so."""
    first = live(package, recipe="race").rig
    second = Rig(package, first.memory, adopt=False, recipe="race")

    def misfit(self: Race, state: object) -> None:
        raise RuntimeError("the race has no ridge.losses")

    monkeypatch.setattr(Race, "restore", misfit)
    restore(second.pipeline.parts, dump(first.pipeline.parts))
    line = second.pipeline.parts.line
    assert "ridge.losses" in caplog.text
    assert line.challenger.seen == first.pipeline.parts.line.challenger.seen > 0
    assert line.challenger.race is not None
    assert line.challenger.race.seen == 0
    assert len(second.pipeline.parts.buffer) == len(first.pipeline.parts.buffer)
