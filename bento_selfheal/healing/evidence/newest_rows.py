"""How good the answers to the newest labelled rows were: ranking, alarms, calibration, confusion.

Counts since deployment say how it went on the whole; this says how it goes now.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.scoring.probabilities import confidence
from bento_selfheal.scoring.ranking import ranking

ROWS_OF_TWO, ROWS_OF_MANY = 2000, 1000
BINS = 10
"""Of probability, for calibration."""
MOST_CELLS = 100
"""Pairs of classes that the confusion names, the most frequent ones."""


class NewestRows:
    """Keeps what was answered to the newest labelled rows, and what the frozen model says.

    2,000 rows of two classes, 1,000 of more. Nothing has trained on a row before it is taken.
    """

    def __init__(self) -> None:
        self._served: NDArray[np.float32] | None = None
        self._frozen: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._decided: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._labels: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._weights: NDArray[np.float64] = np.zeros(0)
        self._told: dict[str, Any] | None = None

    def add(self, batch: LabelledBatch, threshold: float | NDArray[np.float64]) -> None:
        """Take newly labelled rows, decided at the threshold in force, or each at its own."""
        weights = batch.reviewed.weights
        own = (
            np.ones(len(batch.labels)) if weights is None else np.asarray(weights, dtype=np.float64)
        )
        looked_at = own > 0
        if not looked_at.any():
            return
        most = ROWS_OF_TWO if batch.served.ndim == 1 else ROWS_OF_MANY

        def newest(old: NDArray[Any] | None, new: NDArray[Any]) -> NDArray[Any]:
            kept = new[looked_at]
            return (kept if old is None else np.concatenate([old, kept]))[-most:]

        self._served = newest(self._served, batch.served)
        first = not len(self._labels)
        self._frozen = newest(None if first else self._frozen, batch.baseline)
        decided = decide_classes(batch.served, threshold).astype(np.int64)
        self._decided = newest(self._decided, decided)
        self._labels = newest(self._labels, batch.labels.astype(np.int64))
        self._weights = newest(self._weights, own)
        self._told = None

    def status(self) -> dict[str, Any]:
        """As JSON values; figures are None where the rows are too few to tell."""
        if self._told is None:
            self._told = {"rows": len(self._labels), **self._figures()}
        return self._told

    def _figures(self) -> dict[str, Any]:
        if self._served is None:
            return {"ranking": None, "alarms": None, "calibration": [], "confusion": []}
        return {
            "ranking": self._ranking(self._served),
            "alarms": self._alarms(self._served),
            "calibration": self._calibration(self._served),
            "confusion": self._confusion(),
        }

    def _ranking(self, served: NDArray[np.float32]) -> dict[str, Any] | None:
        said = {"served": served, "frozen": self._frozen}
        found = {name: ranking(p, self._labels, self._weights) for name, p in said.items()}
        if found["served"] is None or found["frozen"] is None:
            return None
        return {
            name: {"auc": both[0], "average_precision": both[1]}
            for name, both in found.items()
            if both
        }

    def _alarms(self, served: NDArray[np.float32]) -> dict[str, float] | None:
        """Of two classes: what the alarms caught, and the frozen model with as many alarms."""
        if served.ndim > 1:
            return None
        raised, due = self._decided == 1, self._labels == 1
        whole, of_due = self._weights.sum(), (self._weights * due).sum()
        # As many alarms as were raised, on the rows that the frozen model finds most suspicious.
        ranked = np.argsort(-self._frozen, kind="stable")
        upto = self._weights[ranked].cumsum()
        frozen = ranked[upto <= (self._weights * raised).sum() + 1e-9]

        def caught(rows: NDArray[Any]) -> float:
            return float((self._weights * due)[rows].sum() / of_due) if of_due else 0.0

        right = (self._weights * (raised & due)).sum()
        flagged = (self._weights * raised).sum()
        return {
            "share": float(flagged / whole),
            "recall": caught(raised),
            "precision": float(right / flagged) if flagged else 0.0,
            "frozen_recall": caught(frozen),
        }

    def _calibration(self, served: NDArray[np.float32]) -> list[dict[str, float]]:
        """What was said, and how often it came true, by tenths of probability.

        Of two classes it is the probability of the second; of more, that of the decision.
        """
        two = served.ndim == 1
        said = served.astype(np.float64) if two else confidence(served)
        true = self._labels == 1 if two else self._decided == self._labels
        bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
        rows, came, told = (
            np.bincount(bins, self._weights * of, minlength=BINS) for of in (1.0, true, said)
        )
        return [
            {"said": float(t / n), "true": float(c / n), "rows": float(n)}
            for n, c, t in zip(rows, came, told, strict=True)
            if n
        ]

    def _confusion(self) -> list[dict[str, float]]:
        """Rows by their label and the decision, indices of classes; the most frequent pairs."""
        classes = 1 + max(int(self._labels.max()), int(self._decided.max()))
        pairs = np.bincount(self._labels * classes + self._decided, self._weights)
        largest = np.argsort(-pairs, kind="stable")[:MOST_CELLS]
        return [
            {"label": int(i // classes), "decided": int(i % classes), "rows": float(pairs[i])}
            for i in largest
            if pairs[i]
        ]

    def state(self) -> dict[str, Any]:
        """As tensors, for the checkpoint; nothing before the first row."""
        if self._served is None:
            return {}
        kept: dict[str, NDArray[Any]] = {
            "served": self._served, "frozen": self._frozen, "decided": self._decided,
            "labels": self._labels, "weights": self._weights,
        }  # fmt: skip
        return {name: torch.from_numpy(values.copy()) for name, values in kept.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        if not state:
            return
        self._served, self._frozen = state["served"].numpy(), state["frozen"].numpy()
        self._decided, self._labels = state["decided"].numpy(), state["labels"].numpy()
        self._weights, self._told = state["weights"].numpy(), None
