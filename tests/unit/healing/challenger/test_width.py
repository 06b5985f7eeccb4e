"""Wide hidden vectors: heals stay cheap, calm answers stay right, and old square layers go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.model import ReflexiveLayer, SelfHealingModel
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import predict_probabilities
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream

WIDTH, SQUARE_WIDTH, FEATURES, LABELS = 2048, 300, 8, 25
Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def draw(n: int, seed: int, changed: bool = False) -> Rows:
    """Rows and their class; after the change, the first feature counts the other way."""
    x = np.random.default_rng(seed).normal(size=(n, FEATURES)).astype(np.float32)
    first = -x[:, 0] if changed else x[:, 0]
    return x, (1.5 * first + x[:, 1] + np.sin(2 * x[:, 2]) > 0).astype(np.int64)


def wide(width: int) -> SelfHealingModel:
    """Random features and a head over them."""
    backbone = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU())
    return SelfHealingModel(backbone, ReflexiveLayer(width), nn.Linear(width, 1), output="logit")


def trained(width: int) -> SelfHealingModel:
    """With a head that knows the classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = wide(width)
    rows, labels = (torch.from_numpy(part) for part in draw(3000, 1))
    with torch.no_grad():
        hidden = model.backbone(rows)
    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.1 / width**0.5)
    for _ in range(150):
        optimizer.zero_grad()
        said = model.head(hidden)[:, 0]
        nn.functional.binary_cross_entropy_with_logits(said, labels.float()).backward()
        optimizer.step()
    return model


def packaged(model: SelfHealingModel) -> Package:
    rows, labels = draw(600, 2)
    return package_model(
        "wide", rows, labels, features=[f"f{i}" for i in range(FEATURES)], model=model,
        builder="test_width:wide", builder_args={"width": model.reflexive.dim},
    )  # fmt: skip


def healed(package: Package, rows: Rows, **tuning: Any) -> Backtest:
    """After a stream whose labels all come, a batch late."""
    run = Backtest(package, Settings(tuning={"batch_size": LABELS, **tuning}))
    for _ in run.run(Stream(*rows, LABELS, LABELS)):
        pass
    return run


def accuracy(model: SelfHealingModel, rows: Rows) -> float:
    return float(np.mean((predict_probabilities(model, rows[0]) >= 0.5) == rows[1]))


@pytest.fixture(scope="module")
def package(home: Path) -> Package:
    """With hidden vectors of 2,048."""
    return packaged(trained(WIDTH))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["replay", "race"])
def test_calm_rows_stay_right(package: Package, recipe: str) -> None:
    """Where nothing drifts, what was trained over 2,048 hidden units on 1,500 labels is within half
    a point of the frozen model; its layer takes a thirtieth of what it took when it was square.

    With fewer labels, a line of any width may still be below: its anchor is.
    """
    run = healed(package, draw(60 * LABELS, 3), recipe=recipe)
    fresh, answers = draw(4000, 4), run.parts.line.challenger.answers
    assert accuracy(answers, fresh) >= accuracy(package.model, fresh) - 0.005
    assert len(save(answers.layer_state())) < 1_100_000


@pytest.mark.slow
def test_a_change_is_healed(package: Package) -> None:
    """A wide layer still learns what has changed."""
    run = healed(package, draw(40 * LABELS, 5, changed=True))
    fresh, answers = draw(4000, 6, changed=True), run.parts.line.challenger.answers
    assert accuracy(answers, fresh) > accuracy(package.model, fresh) + 0.1


def test_square_layers_go_on(home: Path) -> None:
    """A package of an earlier release, whose layer is square above a width of 256, opens with the
    same answers, heals, and goes on from its checkpoint to the same bits."""
    model, rows = trained(SQUARE_WIDTH), draw(8 * LABELS, 7)
    squares = [nn.Linear(SQUARE_WIDTH, SQUARE_WIDTH) for _ in range(2)]
    model.reflexive.adapter = nn.Sequential(squares[0], nn.Tanh(), squares[1])
    package = open_package(packaged(model).tag)
    np.testing.assert_array_equal(
        predict_probabilities(package.model, rows[0]), predict_probabilities(model, rows[0])
    )
    run = healed(package, rows)
    state = run.parts.line.challenger.answers.adapter_state()
    assert state["adapter.0.weight"].shape == (SQUARE_WIDTH, SQUARE_WIDTH)
    again = Backtest(package, Settings(tuning={"batch_size": LABELS}))
    restore(again.parts, dump(run.parts))
    for one in (run, again):
        one.pipeline.heal_now()
    ours, theirs = (r.parts.line.challenger.answers.adapter_state() for r in (run, again))
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
