"""Drift signals: each looks at one batch of the prediction log and needs no label."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.packaging.package import Package
from bento_selfheal.telemetry import names


@dataclass(frozen=True)
class SignalReading:
    """What the signals say of one batch."""

    z: float
    """FIDI: the largest |z| over the sensitive features, in standard deviations."""
    conflicts: int
    """Rows on which a rule and the model disagree."""
    drifting: bool
    """Whether any signal on rows asks for a heal."""
    feature: str | None = None
    """The sensitive feature with the largest z; None until the window has 3 batches."""
    distance: float = 0.0
    """The largest distance of a category, of missing values or of the hidden vector."""
    differing: Sequence[str] = ()
    """Those farther away than calm rows get, the farthest first."""

    def attributes(self) -> dict[str, float | bool]:
        """As attributes of a span."""
        return {
            names.Z: self.z,
            names.CONFLICTS: self.conflicts,
            names.DISTANCE: self.distance,
            names.DRIFTING: self.drifting,
        }

    @property
    def reason(self) -> str:
        """Why a heal is asked for, in words."""
        where = f" on {self.feature}" if self.feature else ""
        what = f"z={self.z:.2f}{where}, conflicts={self.conflicts}"
        if not self.differing:
            return what
        return f"{what}, distance={self.distance:.2f} on {', '.join(self.differing)}"


class Fidi:
    """Feature-based Input Distribution Inspection (article.md, section 2).

    ``z = |mean of the last batch means - mu| / sigma``, with sigma the spread of samples,
    not of batch means; 0 until 3 batches have been seen. A feature that was constant when
    it was calibrated has no spread to measure in and is left out.

    Args:
        features: Names of the sensitive features.
        mean: Their means in the calibration data, ``(k,)``.
        std: Their population standard deviations, ``(k,)``.
        window: How many batch means are kept.

    >>> fidi = Fidi(["V14"], [0.0], [1.0], window=10)
    >>> [float(round(fidi.update(np.full((4, 1), 2.0)), 1)) for _ in range(3)]
    [0.0, 0.0, 2.0]
    """

    MIN_BATCHES = 3

    def __init__(
        self, features: Sequence[str], mean: Sequence[float], std: Sequence[float], window: int
    ) -> None:
        self.features = list(features)
        self._mean = np.asarray(mean, dtype=np.float64)
        self._std = np.asarray(std, dtype=np.float64)
        self.window: deque[list[float]] = deque(maxlen=window)

    def update(self, values: NDArray[np.floating[Any]]) -> float:
        """Take one batch of the sensitive features, ``(n, k)``; return the largest z."""
        # In float64: rows near the end of float32 would overflow its sum.
        self.window.append([float(v) for v in values.mean(axis=0, dtype=np.float64)])
        return max(self.scores().values(), default=0.0)

    def scores(self) -> dict[str, float]:
        """z by feature; empty until the window holds 3 batches."""
        if len(self.window) < self.MIN_BATCHES:
            return {}
        shift = np.abs(np.asarray(self.window).mean(axis=0) - self._mean)
        alive = self._std > 0
        return {
            name: float(shift[i] / self._std[i]) for i, name in enumerate(self.features) if alive[i]
        }

    def reading(self, conflicts: int, *, threshold: float, conflict_min: int) -> SignalReading:
        """Both signals after the newest batch: either one over its threshold asks for a heal."""
        scores = self.scores()
        worst = max(scores, key=scores.__getitem__, default=None)
        z = scores[worst] if worst is not None else 0.0
        return SignalReading(z, conflicts, z > threshold or conflicts >= conflict_min, worst)


def calibrated_fidi(package: Package, window: int) -> Fidi:
    """A fresh FIDI that compares with a package's calibration data.

    Args:
        package: The packaged model.
        window: How many batch means are kept.
    """
    known = [package.info.calibration[i] for i in package.value_places]
    return Fidi([c.feature for c in known], [c.mean for c in known], [c.std for c in known], window)
