"""The demo's stream: the fraud pattern moves, and healing finds frauds again that it lost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bento_selfheal.config.settings import Settings
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.demo import demo_stream, package_demo
from bento_selfheal.simulation.streams import ARTICLE_FEATURES

FRAUD = 0.15


def tells(rows: NDArray[np.float32], labels: NDArray[np.int64], feature: str) -> float:
    """How well a feature alone separates frauds, whichever way: 0.5 is not at all."""
    auc = float(roc_auc_score(labels, rows[:, ARTICLE_FEATURES.index(feature)]))
    return max(auc, 1 - auc)


@pytest.mark.parametrize("drift", [2.2, 3.5])
def test_the_pattern_moves(drift: float) -> None:
    """V14 alone tells fraud before, and two other features do afterwards; none makes it trivial."""
    stream = demo_stream(60, 20, drift, 1)
    before, after = slice(0, 2000), slice(2000, 6000)
    assert stream.labels.mean() == pytest.approx(FRAUD, abs=0.001)
    for part, told, silent in ((before, {"V14"}, {"F2", "F8"}), (after, {"F2", "F8"}, {"F0"})):
        rows, labels = stream.rows[part], stream.labels[part]
        assert all(0.8 < tells(rows, labels, name) < 0.99 for name in told)
        assert all(tells(rows, labels, name) < 0.56 for name in silent)
    assert tells(stream.rows[after], stream.labels[after], "V14") < (0.65 if drift < 3 else 0.85)


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_healing_finds_the_frauds_that_the_frozen_model_loses() -> None:
    """With the same number of alarms half as many frauds again are found, AUC and average precision
    rise, and the accuracy beats that of flagging nobody in the end."""
    run = Backtest(package_demo(42), Settings(seed=42))
    reports = list(run.run(demo_stream(40, 5, 2.2, 42)))
    figures = run.figures()
    frozen, served = figures["frozen"], figures["champion"]
    assert frozen["alarms"] == served["alarms"]
    assert (served["caught"] or 0) > 1.5 * (frozen["caught"] or 0)
    assert (served["auc"] or 0) > (frozen["auc"] or 0) + 0.1
    assert (served["average_precision"] or 0) > (frozen["average_precision"] or 0)
    late = [r.champion.accuracy for r in reports[-10:]]
    assert np.mean(late) > run.majority
    assert any(r.z > 1 for r in reports)
    assert any(r.conflicts > 5 for r in reports)
