"""How well answers rank the classes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import THRESHOLD
from bento_selfheal.errors import SettingsError
from bento_selfheal.scoring.scores import Scores


def ranking_figures(
    probabilities: NDArray[np.float32], labels: NDArray[np.float32]
) -> dict[str, float | None]:
    """Accuracy, AUC, average precision and log loss of answers.

    Of many classes the two rankings are means of one class against the others; both are None
    where a class is missing.

    Args:
        probabilities: ``(n,)`` of two classes, ``(n, classes)`` of many.
        labels: Indices of classes, ``(n,)``.

    Raises:
        SettingsError: scikit-learn is not installed.
    """
    metrics = _sklearn_metrics()
    said, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels).astype(int)
    classes = 2 if said.ndim == 1 else said.shape[1]
    if classes > 2:
        said = said / said.sum(axis=1, keepdims=True)
    whole = len(np.unique(truth)) == classes
    auc, precision = _rankings(metrics, said, truth, classes) if whole else (None, None)
    return {
        "accuracy": Scores.of(probabilities, truth, THRESHOLD).accuracy,
        "auc": auc,
        "average_precision": precision,
        "log_loss": float(metrics.log_loss(truth, said, labels=list(range(classes)))),
    }


def _sklearn_metrics() -> ModuleType:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise SettingsError(
            "a backtest needs scikit-learn: pip install 'bento-selfheal[backtest]'"
        ) from error
    module: ModuleType = metrics
    return module


def _rankings(
    metrics: Any, said: NDArray[np.float64], truth: NDArray[np.int64], classes: int
) -> tuple[float, float]:
    """AUC and average precision."""
    if classes == 2:
        auc = metrics.roc_auc_score(truth, said)
        return float(auc), float(metrics.average_precision_score(truth, said))
    auc = metrics.roc_auc_score(truth, said, multi_class="ovr")
    return float(auc), float(metrics.average_precision_score(np.eye(classes)[truth], said))
