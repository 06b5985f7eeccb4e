"""Health: watch what was promoted on labels that come later, and ask for a rollback."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from .config import Thresholds

MIN_BATCHES = 3


@dataclass(frozen=True)
class Alarm:
    """Why health asks for a rollback."""

    metrics: tuple[str, ...]
    """What fell: ``f1``, ``accuracy`` or both."""
    reason: str


@dataclass
class Health:
    """Rolling means against a baseline (article.md, section 4).

    Args:
        window: Labelled batches in the rolling means.
    """

    window: int

    def __post_init__(self) -> None:
        self.baseline: tuple[float, float] | None = None
        self.recent: deque[tuple[float, float]] = deque(maxlen=self.window)

    def begin(self, accuracy: float, f1: float) -> None:
        """Set the baseline, once: accuracy and F1 of the first heal."""
        if self.baseline is None:
            self.baseline = (accuracy, f1)

    def restart(self, *, keep_baseline: bool = False) -> None:
        """Forget the window, and the baseline with it: another model serves now."""
        if not keep_baseline:
            self.baseline = None
        self.recent.clear()

    def update(self, accuracy: float, f1: float, thresholds: Thresholds) -> Alarm | None:
        """Take one batch; return why to roll back, or None."""
        self.recent.append((accuracy, f1))
        if self.baseline is None or len(self.recent) < MIN_BATCHES:
            return None
        mean_accuracy, mean_f1 = (float(v) for v in np.mean(self.recent, axis=0))
        base_accuracy, base_f1 = self.baseline
        falls = {
            metric: f"{metric} {now:.3f} is {base - now:.3f} below its baseline {base:.3f}"
            for metric, now, base, allowed in (
                ("f1", mean_f1, base_f1, thresholds.rollback_f1_drop),
                ("accuracy", mean_accuracy, base_accuracy, thresholds.rollback_acc_drop),
            )
            if base - now > allowed
        }
        return Alarm(tuple(falls), ", ".join(falls.values())) if falls else None
