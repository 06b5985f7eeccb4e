"""Watches the prediction log for drift, batch by batch, and asks for a heal."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.healing.causes.causes import Causes
from bento_selfheal.healing.drift.estimate import Estimate
from bento_selfheal.healing.drift.one_class import OneClass
from bento_selfheal.healing.drift.signals import Signals
from bento_selfheal.healing.labels.labelled_batch import LabelledBatch
from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import RuleSet

Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Features ``(n, features)``, the probabilities that were answered, and the versions that did."""


class DriftWatch:
    """Cuts the prediction log into batches and reads every signal on each.

    Args:
        package: The packaged model.
        settings: Which signals, and from where on they ask for a heal.
        rules: The rules in force.
        causes: Looks for the causes of a drift.

    Attributes:
        causes: As given.
        signals: What the signals say.
        estimate: The accuracy that is estimated without labels.
        one_class: Whether every row is given the same class.
        heal_requested: Whether a signal has asked for a heal since the last one.
        changed: What the detectors last saw change, in words.
        unlabelled: Batches since the last label.
    """

    def __init__(
        self, package: Package, settings: Settings, rules: RuleSet, causes: Causes
    ) -> None:
        self.causes = causes
        self._batch_size = settings.tuning.batch_size
        self._open_rows = np.zeros((0, len(package.info.features)), dtype=np.float32)
        self._open_answers = package.no_answers
        self._open_versions = np.zeros(0, dtype=np.int64)
        self.signals = Signals(package, settings, rules)
        self.estimate = Estimate(package, self._batch_size)
        self.one_class = OneClass(package)
        self.heal_requested = False
        self.changed = ""
        self.unlabelled = 0

    def add(self, entry: PredictionRecord) -> list[Rows]:
        """Take an entry of the prediction log; the batches that are full now, oldest first."""
        self.causes.place = entry.seq
        self._open_rows = np.concatenate([self._open_rows, entry.features])
        self._open_answers = np.concatenate([self._open_answers, entry.probabilities])
        versions = np.full(len(entry.features), entry.version, dtype=np.int64)
        self._open_versions = np.concatenate([self._open_versions, versions])
        full, size = [], self._batch_size
        while len(self._open_rows) >= size:
            parts = self._open_rows, self._open_answers, self._open_versions
            full.append((parts[0][:size], parts[1][:size], parts[2][:size]))
            self._open_rows, self._open_answers = parts[0][size:], parts[1][size:]
            self._open_versions = parts[2][size:]
        return full

    def read(self, batch: Rows, threshold: float | NDArray[np.float64]) -> list[str]:
        """Read the signals on a batch.

        Args:
            batch: Rows and answers.
            threshold: The decision threshold in force, or that of each row, ``(n,)``.

        Returns:
            What the detectors saw change, in words.
        """
        self.causes.take(batch[0])
        seen = self.signals.rows(*batch[:2])
        self._request(seen)
        self.heal_requested = self.heal_requested or self.signals.reading.drifting
        self.unlabelled += 1
        self.estimate.answered(batch[1], threshold)
        return seen

    def labelled(
        self, batch: LabelledBatch, accuracy: float, wrong: NDArray[np.bool_]
    ) -> list[str]:
        """Take a labelled batch, before anything trains on it.

        Args:
            batch: The batch.
            accuracy: Of what was answered.
            wrong: Which rows were answered wrongly, ``(n,)``, in order.

        Returns:
            What the detectors saw change, in words.
        """
        self.causes.learn(batch)
        seen = self.signals.errors(accuracy, wrong)
        self._request(seen)
        self.estimate.checked(accuracy)
        return seen

    def begin(self) -> dict[str, Any]:
        """What is known of a drift as it is seen: why it is one, and its causes; JSON values."""
        causes = self.causes.begin(fallen=bool(self.signals.fallen))
        return {"reason": self.signals.reason, "causes": causes}

    @property
    def wants_heal(self) -> bool:
        """Whether a signal asks for a heal now, or has since the last heal."""
        return self.heal_requested or self.signals.seen

    def _request(self, seen: list[str]) -> None:
        if seen:
            self.changed = ", ".join(seen)
            self.heal_requested = True

    def state(self) -> dict[str, Any]:
        """As JSON values and tensors, for the checkpoint."""
        return {
            "open_rows": torch.from_numpy(self._open_rows.copy()),
            "open_answers": torch.from_numpy(self._open_answers.copy()),
            "open_versions": self._open_versions.tolist(),
            "signals": self.signals.state(),
            "estimate": self.estimate.state(),
            "one_class": self.one_class.state(),
            "heal_requested": self.heal_requested,
            "changed": self.changed,
            "unlabelled": self.unlabelled,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self._open_rows = state["open_rows"].numpy()
        self._open_answers = state["open_answers"].numpy()
        unknown = [0] * len(self._open_rows)  # to earlier releases
        self._open_versions = np.asarray(state.get("open_versions", unknown), dtype=np.int64)
        self.signals.restore(state["signals"])
        self.estimate.restore(state["estimate"])
        self.one_class.restore(state.get("one_class", {}))
        self.heal_requested, self.changed = state["heal_requested"], state["changed"]
        self.unlabelled = state["unlabelled"]
