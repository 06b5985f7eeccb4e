"""Many classes: the same adapter before a head of any width heals them too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.class_probabilities import columns
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import brier
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream

CLASSES = ["green", "red", "yellow", "violet"]


def blobs(n: int, turned: bool, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Four clouds in four features; turned, each class moves into its neighbour's place."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    place = (labels + 1) % 4 if turned else labels
    rows = rng.normal(0, 0.8, (n, 4)) + 2.0 * np.eye(4)[place]
    return rows.astype(np.float32), labels


@pytest.fixture(scope="module")
def package4(home: object) -> Package:
    rows, labels = blobs(3000, False, 0)
    return package_model("four", rows, np.asarray(CLASSES)[labels], features=["a", "b", "c", "d"])


def test_answers_are_one_column_a_class(package4: Package) -> None:
    """Probabilities have a column a class that sum to 1; the classes keep their names."""
    rows, _ = blobs(50, False, 1)
    answers = package4.baseline(rows)
    assert answers.shape == (50, 4)
    assert answers.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    assert package4.info.classes == sorted(CLASSES)
    assert package4.info.accuracy > 0.85


@pytest.mark.slow
def test_heals_many_classes(package4: Package) -> None:
    """When the classes change places the heal wins back what the frozen model lost."""
    index = [sorted(CLASSES).index(name) for name in CLASSES]
    rows, labels = blobs(4000, True, 2)
    run = Backtest(package4, Settings(reference_floor=0.0))
    reports = list(run.run(Stream(rows, np.asarray(index)[labels], delay=100)))
    late = sum((r.champion for r in reports[-10:]), Scores(0, 0, 0, 0))
    frozen = sum((r.shadow for r in reports[-10:]), Scores(0, 0, 0, 0))
    assert frozen.accuracy < 0.3
    assert late.accuracy > 0.8
    figures = run.figures()
    champion, shadow = figures["champion"]["log_loss"], figures["frozen"]["log_loss"]
    assert champion is not None
    assert shadow is not None
    assert champion < shadow
    assert figures["champion"]["auc"] is not None


def test_scores_of_many_classes() -> None:
    """Accuracy is the share of right answers, whatever the class."""
    p = np.eye(3)[[0, 1, 2, 2]]
    assert Scores.of(p, np.asarray([0, 1, 2, 0])).accuracy == 0.75
    assert decide_classes(p).tolist() == [0, 1, 2, 2]
    assert brier(p, np.asarray([0, 1, 2, 0])).tolist() == [0, 0, 0, 1]
    assert columns(torch.tensor([0.25])).tolist() == [[0.75, 0.25]]
