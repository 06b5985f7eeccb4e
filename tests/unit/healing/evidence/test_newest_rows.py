"""The figures of the newest labelled rows: against scikit-learn, and over a restart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics

from bento_selfheal.healing.evidence.newest_rows import ROWS_OF_TWO, NewestRows
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.scoring.ranking import ranking


def batch(
    served: NDArray[Any], labels: NDArray[Any], frozen: NDArray[Any], weights: Any = None
) -> LabelledBatch:
    """As much of a labelled batch as the figures read."""
    seen = SimpleNamespace(
        served=served.astype(np.float32), labels=labels.astype(np.float32),
        baseline=frozen.astype(np.float32), reviewed=SimpleNamespace(weights=weights),
    )  # fmt: skip
    return cast(LabelledBatch, seen)


@pytest.mark.parametrize("classes", [2, 5])
def test_ranking_is_what_scikit_learn_says(classes: int) -> None:
    """AUC and average precision agree with scikit-learn, with ties and weights."""
    rng = np.random.default_rng(3)
    labels, weights = rng.integers(0, classes, 500), rng.uniform(0.5, 9, 500)
    p = rng.dirichlet(np.ones(classes), 500).round(2)
    p = p[:, 1] if classes == 2 else p
    auc, precision = ranking(p, labels, weights) or (0.0, 0.0)
    of_class = [p] if classes == 2 else list(p.T)
    first = 1 if classes == 2 else 0
    truth = [labels == first + c for c in range(len(of_class))]
    for ours, theirs in (
        (auc, metrics.roc_auc_score), (precision, metrics.average_precision_score)
    ):  # fmt: skip
        wanted = [theirs(t, s, sample_weight=weights) for t, s in zip(truth, of_class, strict=True)]
        assert ours == pytest.approx(np.mean(wanted))


def test_alarms_calibration_and_confusion() -> None:
    """What the alarms in force catch stands beside what as many of the frozen model's would."""
    labels = np.repeat([1, 0], [20, 80])
    served = np.where(labels == 1, 0.9, 0.1)
    frozen = np.linspace(0, 1, 100)  # ranks the positives last
    newest = NewestRows()
    newest.add(batch(served, labels, frozen), 0.5)
    told = newest.status()
    assert told["rows"] == 100
    assert told["ranking"]["served"] == {"auc": 1.0, "average_precision": 1.0}
    assert told["ranking"]["frozen"]["auc"] == 0.0
    assert told["alarms"] == {"share": 0.2, "recall": 1.0, "precision": 1.0, "frozen_recall": 0.0}
    rare, common = told["calibration"]
    assert (rare["said"], rare["true"], rare["rows"]) == (pytest.approx(0.1), 0.0, 80.0)
    assert (common["said"], common["true"], common["rows"]) == (pytest.approx(0.9), 1.0, 20.0)
    assert told["confusion"] == [
        {"label": 0, "decided": 0, "rows": 80.0}, {"label": 1, "decided": 1, "rows": 20.0}
    ]  # fmt: skip


def test_rows_stand_for_those_that_nobody_looked_at() -> None:
    """A row that was looked at by chance counts for those it was drawn from; one that nobody
    asked for counts for none."""
    labels, served = np.asarray([1, 0, 0]), np.asarray([0.9, 0.1, 0.9])
    newest = NewestRows()
    newest.add(batch(served, labels, served, np.asarray([1.0, 9.0, 0.0])), 0.5)
    assert newest.status()["rows"] == 2
    assert newest.status()["alarms"]["share"] == pytest.approx(0.1)


def test_few_rows_tell_no_ranking() -> None:
    newest = NewestRows()
    assert newest.status()["ranking"] is None
    newest.add(batch(np.asarray([0.9, 0.2]), np.asarray([1, 0]), np.asarray([0.9, 0.2])), 0.5)
    assert newest.status()["ranking"] is None
    assert newest.status()["alarms"]["recall"] == 1.0


@pytest.mark.parametrize("classes", [2, 4])
def test_only_the_newest_rows_count_and_a_restart_changes_nothing(classes: int) -> None:
    rng = np.random.default_rng(5)
    newest, again = NewestRows(), NewestRows()
    for _ in range(ROWS_OF_TWO // 100 + 5):
        labels = rng.integers(0, classes, 100)
        p = rng.dirichlet(np.ones(classes), 100)
        p = p[:, 1] if classes == 2 else p
        newest.add(batch(p, labels, p), 0.5)
        again = NewestRows()
        again.restore({k: torch.clone(v) for k, v in newest.state().items()})
        newest, again = again, newest
    assert newest.status() == again.status()
    assert newest.status()["rows"] == (2000 if classes == 2 else 1000)
    assert sum(cell["rows"] for cell in newest.status()["confusion"]) == newest.status()["rows"]
