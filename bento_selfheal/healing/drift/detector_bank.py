"""Further signals beside FIDI and conflicts: River's detectors, and the canary of agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.healing.drift.detector_calibration import calibrate
from bento_selfheal.healing.drift.detectors import Detector
from bento_selfheal.packaging.package import Package

ERRORS = "errors"


class DetectorBank:
    """Detectors by name, each calibrated on the reference set by its run length.

    Every detector runs on the errors of what was served, as labels come, and on each sensitive
    feature as rows come.

    Args:
        package: The packaged model.
        settings: Which detectors, and rows to a false alarm.
    """

    def __init__(self, package: Package, settings: Settings) -> None:
        self._package = package
        known = package.info.calibration
        self._columns = {c.feature: i for i, c in enumerate(known)}
        self._scale = {c.feature: (c.mean, c.std or 1.0) for c in known}
        rows, labels = package.reference_rows, package.reference_labels
        calm = {ERRORS: (decide_classes(package.baseline(rows)) != labels).astype(np.float64)}
        watched = package.watched(rows)
        calm |= {name: self._values(watched, name) for name in self._columns}
        self.detectors: dict[tuple[str, str], Detector] = {
            (name, what): Detector(
                name,
                calibrate(
                    name, sample, run_length=settings.tuning.detector_run_length, seed=settings.seed
                ),
                settings.seed,
            )
            for name in settings.detectors
            for what, sample in calm.items()
        }

    def rows(self, rows: NDArray[np.float32]) -> list[str]:
        """Take one batch of rows; what changed, in words."""
        watched = self._package.watched(rows)
        return [
            f"{name} on {what}"
            for (name, what), detector in self.detectors.items()
            if what != ERRORS and detector.update(self._values(watched, what))
        ]

    def errors(self, wrong: NDArray[np.bool_]) -> list[str]:
        """Take the errors of one labelled batch, in order; what changed, in words."""
        return [
            f"{name} on {what}"
            for (name, what), detector in self.detectors.items()
            if what == ERRORS and detector.update(wrong.astype(np.float64))
        ]

    def state(self) -> list[tuple[str, str, dict[str, Any]]]:
        """All of it as JSON values, for the checkpoint."""
        return [(name, what, d.to_state()) for (name, what), d in self.detectors.items()]

    def restore(self, state: list[tuple[str, str, dict[str, Any]]]) -> None:
        """Put back what `state` gave; detectors that are set no more are dropped."""
        for name, what, facts in state:
            if (name, what) in self.detectors:
                self.detectors[name, what] = Detector.from_state(facts)

    def _values(self, watched: NDArray[np.float64], feature: str) -> NDArray[np.float64]:
        mean, std = self._scale[feature]
        return np.asarray((watched[:, self._columns[feature]] - mean) / std)
