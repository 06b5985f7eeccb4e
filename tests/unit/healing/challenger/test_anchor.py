"""The anchor: a few labels correct what the frozen shadow says, and no more than they can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.healing.challenger.anchor import MOST_WEIGHTS, Anchor, Basis
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.scoring.probabilities import targets

Rows = NDArray[np.float32]


def world(n: int, features: int = 3, seed: int = 0) -> tuple[Rows, Tensor]:
    """Rows, and a shadow that goes by the first feature alone."""
    rows = np.random.default_rng(seed).normal(size=(n, features)).astype(np.float32)
    return rows, torch.sigmoid(torch.from_numpy(rows[:, 0] * 2))


def fitted(anchor: Anchor, said: Tensor, rows: Rows, labels: NDArray[np.bool_]) -> Anchor:
    anchor.fit(said, rows, torch.from_numpy(labels).float(), torch.ones(len(rows)), len(rows))
    return anchor


def usual(said: Tensor, columns: int) -> Basis:
    return Basis(said, range(columns), [0.0] * columns, [1.0] * columns)


def accuracy(anchor: Anchor, truth: str, features: int = 3) -> float:
    """On rows of the same kind that it has not seen."""
    rows, said = world(4000, features, seed=9)
    return float(((anchor(said, rows).numpy() >= 0.5) == TRUTHS[truth](rows)).mean())


TRUTHS = {
    "turned": lambda x: x[:, 0] < 0,
    "other feature": lambda x: x[:, 1] > 0.3,
    "a square": lambda x: x[:, 1] ** 2 > 1,
    "a product": lambda x: x[:, 1] * x[:, 2] > 0,
}


@pytest.mark.parametrize("truth", list(TRUTHS))
def test_learns_from_few_labels(truth: str) -> None:
    """150 labels are enough to follow the shadow's meaning, a feature, a square or a product."""
    rows, said = world(150)
    anchor = fitted(Anchor(usual(said, 3)), said, rows, TRUTHS[truth](rows))
    assert accuracy(anchor, truth) > 0.9


def test_more_features_than_there_is_room_for() -> None:
    """Of 300 features the first ones take part, and are learned from."""
    rows, said = world(1500, 300)
    truth = TRUTHS["other feature"]
    anchor = fitted(Anchor(usual(said, 300)), said, rows, truth(rows))
    assert accuracy(anchor, "other feature", 300) > 0.8


def test_without_labels_it_says_what_the_shadow_says() -> None:
    """Before a fit, and where a label says nothing, the shadow stands."""
    rows, said = world(200)
    anchor = Anchor(usual(said, 3))
    assert torch.allclose(anchor(said, rows), said, atol=1e-6)
    anchor.fit(said, rows, said.round(), torch.zeros(200), 200)
    assert torch.allclose(anchor(said, rows), said, atol=1e-6)


def test_few_labels_move_it_little() -> None:
    """Five labels against the shadow do not turn it round: the ridge holds it."""
    rows, said = world(5)
    anchor = fitted(Anchor(usual(said, 3), ridge=20.0), said, rows, said.numpy() < 0.5)
    assert accuracy(anchor, "turned") < 0.5


def test_fits_again_from_where_it_stands() -> None:
    """A second fit to the same rows changes nothing, from zero or from the first one's weights."""
    rows, said = world(300)
    once = fitted(Anchor(usual(said, 3)), said, rows, TRUTHS["a square"](rows))
    weights = once.weights.clone()
    again = fitted(once, said, rows, TRUTHS["a square"](rows))
    assert torch.allclose(again.weights, weights, atol=1e-2)


def test_due() -> None:
    """It is fitted at once, then forty times in a half-life."""
    rows, said = world(100)
    anchor = Anchor(usual(said, 3))
    assert anchor.due(25, 4000)
    fitted(anchor, said, rows, said.numpy() > 0.5)
    assert not anchor.due(199, 4000)
    assert anchor.due(200, 4000)


@pytest.mark.parametrize(("features", "classes"), [(3, 1), (20, 1), (126, 1), (253, 1), (300, 1),
                                                   (8, 10), (500, 60)])  # fmt: skip
def test_weights_are_bounded(features: int, classes: int) -> None:
    """Products go first, then squares, then the features themselves: the fit stays small."""
    rows = np.random.default_rng(0).normal(size=(50, features)).astype(np.float32)
    said = torch.rand(50) if classes == 1 else torch.softmax(torch.randn(50, classes), dim=1)
    anchor = Anchor(usual(said, features))
    assert anchor.weights.numel() <= MOST_WEIGHTS
    assert anchor(said, rows).shape == said.shape


def test_many_classes() -> None:
    """Of three classes, two of which changed places, each gets its meaning back."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 2)).astype(np.float32)
    said = torch.softmax(torch.from_numpy(rng.normal(size=(300, 3))) * 3, dim=1).float()
    swapped = torch.tensor([1, 0, 2])[said.argmax(dim=1)]
    anchor = Anchor(usual(said, 2))
    anchor.fit(said, rows, targets(swapped, said), torch.ones(300), 300)
    assert float((anchor(said, rows).argmax(dim=1) == swapped).float().mean()) > 0.95


def test_sees_what_is_watched_and_what_never_moved(home: object) -> None:
    """A package's anchor goes by its sensitive features, and by one that was constant when it was
    trained: that one may begin to matter."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(400, 3)).astype(np.float32)
    rows[:, 2] = 0.1
    labels = rows[:, 0] > 0
    package: Package = package_model(
        "still", rows, labels.astype(int), features=["a", "b", "c"], sensitive=["a"],
        training=Training(epochs=1),
    )  # fmt: skip
    stream = rng.normal(size=(200, 3)).astype(np.float32)
    said = torch.from_numpy(package.baseline(stream))
    for feature, seen in ((1, False), (2, True)):
        truth = stream[:, feature] > (0.1 if feature == 2 else 0)
        anchor = fitted(Anchor(Basis.of(package)), said, stream, truth)
        right = float(((anchor(said, stream).numpy() >= 0.5) == truth).mean())
        assert (right > 0.9) is seen
