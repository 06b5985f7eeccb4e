"""The ranking guard: what is served must not rank worse than what it replaces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.scoring.auc import auc_gap

WINDOW = 500
MOST_ROWS = 5000
CHALLENGER, CHAMPION, BASELINE = range(3)


class RankingGuard:
    """Holds a promotion back while the challenger ranks the newest rows worse.

    The gate compares mean losses. Where many rows are easy, or one class is rare, a challenger can
    have the lower loss and yet put fewer of the rare rows on top. So what was said of the newest
    rows, before anybody trained on them, is also compared by AUC: with the champion, and with the
    frozen model, because a line that may lose a standard error at each of its promotions would
    sink far below where it began. A challenger that ranks above the champion is never held back.

    The window holds 500 rows, and more where one class is rare (`LabelledRows.rarity`), 5,000 at
    most.
    """

    def __init__(self) -> None:
        self._said: NDArray[np.float32] | None = None
        self._labels: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._weights: NDArray[np.float64] = np.zeros(0)

    def add(
        self,
        challenger: NDArray[np.float32],
        champion: NDArray[np.float32],
        baseline: NDArray[np.float32],
        labels: NDArray[np.float32],
        rarity: float,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take what three models say of newly labelled rows.

        Args:
            challenger: Probabilities, ``(n,)`` or ``(n, classes)``.
            champion: Those of what serves.
            baseline: Those of the frozen model.
            labels: Indices of classes, ``(n,)``.
            rarity: How rare the rarest class is.
            weights: Rows that each stands for, ``(n,)``; for its own alone where there are none.
        """
        said = np.stack([challenger, champion, baseline]).astype(np.float32)
        if self._said is not None:
            said = np.concatenate([self._said, said], axis=1)
        kept = min(int(WINDOW * rarity), MOST_ROWS)
        self._said = said[:, -kept:]
        self._labels = np.concatenate([self._labels, labels]).astype(np.float32)[-kept:]
        own = np.ones(len(labels)) if weights is None else weights
        self._weights = np.concatenate([self._weights, own])[-kept:]

    def refusal(self, rows_per_label: float = 1.0) -> str:
        """Why the challenger may not serve now; empty where it ranks no worse, by an error.

        Args:
            rows_per_label: Where rows are chosen by what their labels can tell, how many are
                answered for each. Fewer labels than the window holds must then speak against it as
                loudly as it full would: one that is held back by chance is held back until many
                others came.
        """
        if self._said is None:
            return ""
        ours, labels = self._said[CHALLENGER], self._labels
        weights = None if (self._weights == 1).all() else self._weights
        by_champion = auc_gap(ours, self._said[CHAMPION], labels, weights)
        if by_champion is None or by_champion[0] > 0:
            return ""
        sure = math.sqrt(min(max(WINDOW / len(labels), 1.0), rows_per_label))
        by_baseline = auc_gap(ours, self._said[BASELINE], labels, weights)
        for model, found in (("what serves", by_champion), ("the frozen model", by_baseline)):
            if found is not None and found[0] < -found[1] * sure:
                return (
                    f"it ranks rows worse than {model}: AUC lower by {-found[0]:.4f} "
                    f"on {len(labels)} labels"
                )
        return ""

    def state(self) -> dict[str, Any]:
        """As tensors, for the checkpoint; nothing before the first row."""
        if self._said is None:
            return {}
        kept = (self._said, self._labels, self._weights)
        said, labels, weights = (torch.from_numpy(values.copy()) for values in kept)
        return {"said": said, "labels": labels, "weights": weights}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        if state:
            self._said, self._labels = state["said"].numpy(), state["labels"].numpy()
            ones = torch.ones(len(self._labels), dtype=torch.float64)  # earlier releases knew none
            self._weights = state.get("weights", ones).numpy()
