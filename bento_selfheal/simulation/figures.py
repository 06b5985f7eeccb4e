"""What answers are worth: their decisions, the cost of these, their ranking, what alarms catch."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import Numbers, decide_classes
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.alarms import raise_alarms
from bento_selfheal.scoring.losses import cost_of
from bento_selfheal.scoring.scores import Scores, recalls_of

Figures = dict[str, float | None]
RANKING = ("auc", "average_precision", "log_loss")


def figures_of(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.generic],
    thresholds: float | Numbers,
    shares: list[float],
    costs: Thresholds,
) -> Figures:
    """Figures of answers, by name.

    Accuracy, recall, precision and cost are those of the decisions; ``alarms``, ``caught`` and
    ``to_catch`` are the counts of as many alarms as people can look at, ``recall_at_alarms`` and
    ``precision_at_alarms`` their shares (`raise_alarms`). Of many classes AUC and average
    precision are means of one class against the others; both are None where a class is missing,
    and with the log loss where scikit-learn is not installed. ``mean_recall`` is that of the
    classes which have rows, and None of two classes; of many ``recall`` and ``precision`` set the
    first one against the others.

    Args:
        probabilities: ``(n,)`` of two classes, ``(n, classes)`` of many, in order of time.
        labels: Indices of classes, ``(n,)``.
        thresholds: The threshold of all rows, or of each, ``(n,)``.
        shares: `alarm_shares`.
        costs: What mistakes cost.
    """
    scores, many = Scores.of(probabilities, labels, thresholds), np.ndim(probabilities) == 2
    alarms = raise_alarms(probabilities, labels, shares)
    return {
        "accuracy": scores.accuracy,
        "recall": scores.recall,
        "precision": scores.precision,
        "mean_recall": _mean_recall(probabilities, labels) if many else None,
        "cost": cost_of(scores, costs),
        **_ranking(probabilities, labels),
        "alarms": alarms.raised,
        "caught": alarms.right,
        "to_catch": alarms.due,
        "recall_at_alarms": alarms.recall,
        "precision_at_alarms": alarms.precision,
    }


def alarm_shares(package: Package, costs: Thresholds) -> list[float]:
    """Alarms per row that people can look at, for `raise_alarms`.

    That is the operator's capacity. Without one, each class may be named as often as it occurs in
    the reference set: enough to find every such row, and no more for a model that flags everybody.
    """
    if package.binary and costs.capacity is not None:
        return [costs.capacity / 1000]
    labels = package.reference_labels.astype(np.int64)
    shares = np.bincount(labels, minlength=len(package.info.classes)) / len(labels)
    each: list[float] = shares.tolist()
    return each[1:] if package.binary else each


def _mean_recall(probabilities: NDArray[np.float32], labels: NDArray[np.generic]) -> float:
    return float(np.mean(list(recalls_of(decide_classes(probabilities), labels).values())))


def _ranking(probabilities: NDArray[np.float32], labels: NDArray[np.generic]) -> Figures:
    metrics = _sklearn_metrics()
    if metrics is None:
        return dict.fromkeys(RANKING)
    # A probability may lie outside by rounding, which scikit-learn refuses.
    said = np.asarray(probabilities, dtype=np.float64).clip(0, 1)
    truth = np.asarray(labels).astype(int)
    classes = 2 if said.ndim == 1 else said.shape[1]
    if classes > 2:
        said = said / said.sum(axis=1, keepdims=True)
    whole = len(np.unique(truth)) == classes
    auc, precision = _rankings(metrics, said, truth, classes) if whole else (None, None)
    log_loss = float(metrics.log_loss(truth, said, labels=list(range(classes))))
    return dict(zip(RANKING, (auc, precision, log_loss), strict=True))


def _sklearn_metrics() -> ModuleType | None:
    try:
        from sklearn import metrics
    except ImportError:
        return None
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
