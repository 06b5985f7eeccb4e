"""Figures of answers: what is compared, and what can be shown without scikit-learn."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.figures import alarm_shares, figures_of

EQUAL = Thresholds()
TOLD = np.asarray([0.9, 0.6, 0.4, 0.1], dtype=np.float32)
LABELS = np.asarray([1, 0, 1, 0])


def test_figures_by_hand() -> None:
    """Decisions follow the thresholds, cost the costs, and alarms the ranking alone."""
    f = figures_of(TOLD, LABELS, 0.5, [0.5], Thresholds(miss_cost=10, alarm_cost=2))
    assert (f["accuracy"], f["recall"], f["precision"], f["cost"]) == (0.5, 0.5, 0.5, 3.0)
    assert (f["alarms"], f["caught"], f["to_catch"]) == (2, 1, 2)
    assert f["auc"] == 0.75
    each = np.asarray([0.5, 0.7, 0.3, 0.5], dtype=np.float32)
    moved = figures_of(TOLD, LABELS, each, [0.5], EQUAL)
    assert (moved["accuracy"], moved["cost"], moved["caught"]) == (1.0, 0.0, 1)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs no scikit-learn is shown without it; the rankings are not known."""
    whole = figures_of(TOLD, LABELS, 0.5, [0.5], EQUAL)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    bare = figures_of(TOLD, LABELS, 0.5, [0.5], EQUAL)
    unknown = {k for k, v in bare.items() if v is None} - {k for k, v in whole.items() if v is None}
    assert unknown == {"auc", "average_precision", "log_loss"}
    assert {k: v for k, v in whole.items() if k not in unknown} == {
        k: v for k, v in bare.items() if k not in unknown
    }


def test_probabilities_outside_by_rounding() -> None:
    """A probability that rounding put beyond 1 or 0 counts as 1 or 0."""
    beyond = np.asarray([1.0000001, 0.6, 0.4, -1e-7], dtype=np.float32)
    assert figures_of(beyond, LABELS, 0.5, [0.5], EQUAL) == figures_of(
        beyond.clip(0, 1), LABELS, 0.5, [0.5], EQUAL
    )


def test_alarms_that_people_can_look_at(package: Package) -> None:
    """The operator's capacity; without one as many as there are frauds in the reference set."""
    assert alarm_shares(package, Thresholds(capacity=20)) == [0.02]
    [share] = alarm_shares(package, EQUAL)
    assert share == pytest.approx(package.reference_labels.mean())
