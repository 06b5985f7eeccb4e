"""Accuracy without labels, and how far the estimate was off once labels came.

Confidence-based performance estimation, as NannyML's CBPE does it: recalibrate the model's
probabilities on the reference set, then average the probability that each decision is right.
It holds while what the features say of a class stays as it was, and says nothing of a change
in that; so the miss against labels stands beside it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.decision import decide_classes
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import confidence, targets
from bento_selfheal.scoring.recalibration import Recalibration

NEWEST = 8
"""Labelled batches by which the estimate is judged."""
SURE = 3.0
"""Standard errors that a gap may have by chance."""
TOLERATED = 0.02


class Estimate:
    """The estimated accuracy of the newest batch of answers.

    Args:
        package: The packaged model, on whose reference set probabilities are recalibrated.
        batch_size: Rows of a labelled batch.
    """

    def __init__(self, package: Package, batch_size: int) -> None:
        self._batch_size = batch_size
        answers = torch.from_numpy(package.baseline(package.reference_rows))
        truth = targets(torch.from_numpy(package.reference_labels), answers)
        self._scale = Recalibration(answers, truth, torch.ones(len(answers)), degree=1)
        self._gaps: deque[float] = deque(maxlen=NEWEST)
        self.accuracy: float | None = None
        self.off: float | None = None
        """Estimate less accuracy, mean over the batches whose labels came."""
        self.checks = 0

    def answered(
        self, answers: NDArray[np.float32], threshold: float | NDArray[np.float64]
    ) -> None:
        """Take one batch of answers without labels."""
        scaled = self._scale(torch.from_numpy(np.ascontiguousarray(answers))).numpy()
        if scaled.ndim == 1:
            said = decide_classes(answers, threshold)
            right = np.where(said > 0, scaled, 1 - scaled)
        else:
            right = confidence(scaled)
        self.accuracy = float(right.mean())

    def checked(self, accuracy: float) -> None:
        """Take the accuracy that labels gave a batch."""
        if self.accuracy is None:
            return
        self.checks += 1
        gap = self.accuracy - accuracy
        self._gaps.append(gap)
        self.off = gap if self.off is None else self.off + (gap - self.off) / self.checks

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        gaps = list(self._gaps)
        return {"accuracy": self.accuracy, "off": self.off, "checks": self.checks, "gaps": gaps}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.accuracy, self.off, self.checks = state["accuracy"], state["off"], state["checks"]
        self._gaps = deque(state.get("gaps", ()), maxlen=NEWEST)

    @property
    def contradicted(self) -> bool:
        """Whether labels say something else, beyond chance, in the newest batches that have any."""
        if not self._gaps:
            return False
        chance = SURE * math.sqrt(0.25 / (self._batch_size * len(self._gaps)))
        return abs(sum(self._gaps) / len(self._gaps)) > chance + TOLERATED

    @property
    def shown(self) -> float | None:
        """The estimate; None where labels contradict it."""
        return None if self.contradicted else self.accuracy

    def as_dict(self) -> dict[str, Any]:
        """As the status shows it: without the estimate where labels contradict it."""
        return {
            "accuracy": self.shown,
            "off_by": self.off, "checks": self.checks, "contradicted": self.contradicted,
        }  # fmt: skip
