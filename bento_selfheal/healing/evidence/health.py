"""Health: watch what was promoted on labels that come later, and ask for a rollback."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import Snapshot
from bento_selfheal.scoring.scores import Scores, telling_figures

MIN_BATCHES = 3
ROLLBACK_MARGIN = 0.05
THRESHOLD_OF = {"f1": "rollback_f1_drop", "accuracy": "rollback_acc_drop"}
OF_TWO = telling_figures(2)


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
        figures: Those that may not fall, `telling_figures` of the classes.
    """

    window: int
    figures: tuple[str, ...] = OF_TWO

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

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"baseline": self.baseline, "recent": list(self.recent)}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.baseline = tuple(state["baseline"]) if state["baseline"] else None
        self.recent.extend(tuple(pair) for pair in state["recent"])

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
            if metric in self.figures and base - now > allowed
        }
        return Alarm(tuple(falls), ", ".join(falls.values())) if falls else None


def better(
    kept: Mapping[Snapshot, Scores],
    now: Scores,
    alarm: Alarm,
    thresholds: Thresholds,
    figures: Sequence[str],
) -> Snapshot | None:
    """The snapshot that does best in what fell, when it beats what serves by a margin.

    It may lose no more than a threshold of another figure.

    Args:
        kept: What each snapshot does on the rows of the fall.
        now: What serves does on them.
        alarm: What fell.
        thresholds: The rollback thresholds in force.
        figures: Those that count, `telling_figures` of the classes.
    """
    least = {f: getattr(now, f) - getattr(thresholds, THRESHOLD_OF[f]) for f in figures}
    harmless = {
        snapshot: s
        for snapshot, s in kept.items()
        if all(getattr(s, figure) >= bound for figure, bound in least.items())
    }
    for metric in alarm.metrics:
        best = max(harmless, key=lambda s: getattr(harmless[s], metric), default=None)
        # By a margin: the best of twenty is a little better by chance alone.
        margin = min(getattr(thresholds, THRESHOLD_OF[metric]), ROLLBACK_MARGIN)
        needed = getattr(now, metric) + margin
        if best is not None and getattr(harmless[best], metric) > needed:
            return best
    return None
