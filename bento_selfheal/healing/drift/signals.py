"""All signals combined: whether the data drifts, and why, in words."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.healing.drift.agreement import Agreement
from bento_selfheal.healing.drift.detector_bank import DetectorBank
from bento_selfheal.healing.drift.distance.distances import Distances
from bento_selfheal.healing.drift.fidi import Fidi, SignalReading, calibrated_fidi
from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import RuleSet


class Signals:
    """Computes every signal: on rows as they arrive, on errors once their labels are known.

    Args:
        package: The packaged model.
        settings: Which signals there are, and the thresholds at which they request a heal.
        rules: The rules in force.

    Attributes:
        reading: FIDI, conflicts and distances of the newest batch.
        recent: Served accuracy of the newest labelled batches.
        fallen: Why that is too low; empty when calm.
    """

    def __init__(self, package: Package, settings: Settings, rules: RuleSet) -> None:
        self._package = package
        self._settings = settings
        self._rules = rules
        self.fidi = calibrated_fidi(package, settings.tuning.fidi_window)
        self.reading = SignalReading(0.0, 0, drifting=False)
        self.agreement = Agreement(rules, package, settings.tuning.fidi_window)
        self.distances = Distances(package, settings)
        self.detectors = DetectorBank(package, settings)
        self.recent: list[float] = []
        self.fallen = ""

    def rows(self, rows: NDArray[np.float32], answers: NDArray[np.float32]) -> list[str]:
        """Take one batch of rows and answers; what detectors saw change, in words."""
        s = self._settings
        self.fidi.update(self._package.watched(rows)[:, self._package.value_places])
        conflicts = int(self._rules.conflicts(rows, answers, s.tuning.conflict_thr).sum())
        reading = self.fidi.reading(
            conflicts, threshold=s.tuning.fidi_threshold, conflict_min=s.tuning.conflict_min
        )
        self.distances.update(rows)
        self.reading = self._with_distances(reading)
        self.agreement.update(rows, answers)
        return self.detectors.rows(rows)

    def _with_distances(self, reading: SignalReading) -> SignalReading:
        scores = self.distances.scores()
        differing = [name for name, far in scores.items() if far > self.distances.limit]
        return replace(
            reading,
            distance=max(scores.values(), default=0.0),
            differing=differing,
            drifting=reading.drifting or bool(differing),
        )

    def errors(self, accuracy: float, wrong: NDArray[np.bool_]) -> list[str]:
        """Take a labelled batch's served accuracy, and its errors in order; what detectors saw."""
        self.recent = [*self.recent, accuracy][-self._settings.tuning.health_window :]
        self.fallen = self._error_signal()
        return self.detectors.errors(wrong)

    @property
    def seen(self) -> bool:
        """Whether a signal requests a heal."""
        return self.reading.drifting or bool(self.fallen)

    @property
    def calm(self) -> bool:
        """Whether no signal indicates drift."""
        return not (self.seen or self._canary)

    @property
    def reason(self) -> str:
        """Why a heal is requested, in words."""
        return ", ".join(filter(None, (self.reading.reason, self.fallen, self._canary)))

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {
            "reading": asdict(self.reading),
            "fidi": list(self.fidi.window),
            "distances": self.distances.state(),
            "agreement": self.agreement.recent,
            "detectors": self.detectors.state(),
            "recent": self.recent,
            "fallen": self.fallen,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.reading = SignalReading(**state["reading"])
        # An earlier release watched missing values here too: its window says nothing now.
        width = len(self.fidi.features)
        self.fidi.window.extend(means for means in state["fidi"] if len(means) == width)
        self.distances.restore(state.get("distances", []))
        self.agreement.recent = [(hits, rows) for hits, rows in state["agreement"]]
        self.detectors.restore(state["detectors"])
        self.recent, self.fallen = state["recent"], state["fallen"]

    @property
    def _canary(self) -> str:
        """The signal that rules and model no longer agree as they did; empty when calm."""
        if self.agreement.z <= self._settings.tuning.agreement_z:
            return ""
        now, usual = self.agreement.now or 0.0, self.agreement.usual
        return f"rules and model agree on {now:.3f} of the rows against {usual:.3f}"

    def _error_signal(self) -> str:
        """The third signal, on labels: accuracy below the reference set's; empty when calm.

        Only this signal shows drift in the relation between rows and classes while the rows stay
        the same.
        """
        if len(self.recent) < Fidi.MIN_BATCHES:
            return ""
        accuracy, expected = float(np.mean(self.recent)), self._package.info.accuracy
        if expected - accuracy <= self._settings.tuning.error_drop:
            return ""
        return f"accuracy {accuracy:.3f} against {expected:.3f} on the reference set"
