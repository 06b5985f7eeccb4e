"""A head with a sigmoid for each class: its answers become probabilities, for all who use them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rigs import Live, Rig
from safetensors.torch import load, save
from torch import nn

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import NewSnapshot, Phase
from bento_selfheal.model import ReflexiveLayer, SelfHealingModel
from bento_selfheal.packaging.adapters import ADAPTER, Registry
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.model_store import model_folder
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.scoring.losses import row_losses
from bento_selfheal.scoring.probabilities import probabilities_or_half

COSTS = Thresholds()


def sigmoid_for_each() -> SelfHealingModel:
    """A user's own: five classes, each with a probability of its own."""
    head = nn.Sequential(nn.Linear(8, 5), nn.Sigmoid())
    backbone = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
    return SelfHealingModel(backbone, ReflexiveLayer(8), head)


def clouds(n: int, turned: bool, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Five clouds in five features; turned, each class moves into its neighbour's place."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n)
    place = (labels + 1) % 5 if turned else labels
    return (rng.normal(0, 0.8, (n, 5)) + 2.0 * np.eye(5)[place]).astype(np.float32), labels


@pytest.fixture(scope="module")
def sigmoids(home: object) -> Package:
    """A packaged model whose head says of every class that it is nearly certain."""
    rows, labels = clouds(600, False, 0)
    torch.manual_seed(0)
    model = sigmoid_for_each()
    with torch.no_grad():
        model.head[0].bias += 3.0  # type: ignore[index, operator]
    return package_model(
        "sigmoids", rows, labels, features=list("abcde"), model=model,
        builder="test_sigmoid_head:sigmoid_for_each", training=Training(epochs=1),
    )  # fmt: skip


def test_what_is_served_is_what_is_judged(sigmoids: Package) -> None:
    """Answers sum to 1 and name the class that the head finds likeliest, so that losses lie in
    [0, 1]; as the head gave them, a row's loss would be above 1."""
    rows, labels = clouds(200, False, 1)
    with torch.no_grad():
        raw = sigmoids.model.head(sigmoids.model.reflexive(sigmoids.embed(rows))).numpy()
    answers = sigmoids.baseline(rows)
    truth = np.eye(5)[labels]
    assert ((raw - truth) ** 2).sum(axis=1).max() / 2 > 1.2
    assert answers.sum(axis=1) == pytest.approx(np.ones(200), abs=1e-6)
    assert (answers.argmax(axis=1) == raw.argmax(axis=1)).all()
    losses = row_losses(answers, labels, COSTS)
    assert 0 <= losses.min() <= losses.max() <= 1


@pytest.mark.slow
def test_it_heals(sigmoids: Package) -> None:
    """Where classes change places such a model is healed, promoted and beats the frozen one."""
    ran = Live(Rig(sigmoids, replay_rate=0.05, reference_floor=0.0, retrain_batches=1000))
    ran.send(*clouds(2000, True, 2))
    status = ran.rig.status()
    assert status["promotions"] >= 1
    assert status["lift"]["mean"] > 0.1
    assert "refused" not in ran.rig.kinds()


def test_a_log_of_an_earlier_release(sigmoids: Package) -> None:
    """Answers that were logged as the head gave them stop no healing, though their loss against
    the line's own would be above 1."""
    ran = Live(Rig(sigmoids, replay_rate=0.05, reference_floor=0.0))
    ran.send(*clouds(1000, True, 2))
    parts = ran.rig.pipeline.parts
    asked, _ = next(e for e in reversed(ran.log) if hasattr(e[0], "probabilities"))
    older = replace(
        asked, request=b"o" * 12, seq=ran.requests + 1, version=parts.lineage.serving_version,
        probabilities=np.full_like(asked.probabilities, 0.97),  # type: ignore[union-attr]
    )  # fmt: skip
    ran.requests += 1
    ran.rig.take((older, None))
    heals = parts.scoreboard.counts.heals
    for row in range(len(older.features)):  # type: ignore[union-attr, arg-type]
        ran.label(older, row, 0)  # type: ignore[arg-type]
    assert parts.scoreboard.counts.heals > heals


def test_a_snapshot_of_an_earlier_release(sigmoids: Package) -> None:
    """A snapshot whose canary answers were kept as the head gave them still verifies."""
    registry = Registry(sigmoids, "sigmoids")
    kept = registry.save(
        NewSnapshot(1, Phase.CLEAN, heal=0, batch=0, reason="packaged"),
        sigmoids.model.adapter_state(),
    )
    file = model_folder(kept.tag) / ADAPTER
    with torch.no_grad():
        hidden = sigmoids.model.reflexive(sigmoids.model.backbone(sigmoids.canary))
        raw: Any = sigmoids.model.head(hidden)
    blob = save({**load(file.read_bytes()), "canary": raw})
    file.write_bytes(blob)
    registry.load(kept.tag, hashlib.sha256(blob).hexdigest())


def test_no_number_knows_nothing(sigmoids: Package) -> None:
    """A row whose answer is no number counts as one of which nothing is known: its loss is that
    of even chances, not one above 1."""

    class Lost(nn.Module):
        """Answers nothing but NaN, or too much."""

        device = torch.device("cpu")

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            out = torch.full((len(rows), 40), float("nan"))
            out[1:] = 3.0
            return out

    answers = probabilities_or_half(Lost(), np.zeros((2, 5), dtype=np.float32))  # type: ignore[arg-type]
    assert answers == pytest.approx(np.full((2, 40), 1 / 40))
    assert row_losses(answers, np.asarray([3, 3]), COSTS).max() <= 1
