"""An alarm of its own: the service gives every row the same class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.decision import decide_classes
from bento_selfheal.packaging.package import Package

FEWEST = 100
CHANCE = 1e-6
"""A run of answers is an alarm when it would be less likely than this by chance."""


class OneClass:
    """Sees that the newest rows were all given the same class, which the packaged model would not.

    How often the packaged model gives each class, it takes from the reference set, at the
    threshold that the operator's costs call for. A capacity says itself how many rows to flag. So
    a service that is asked to flag few rows may flag nobody for long.

    Args:
        package: The packaged model.

    Attributes:
        rows: Rows since another class was last given.
        given: The class that they all were given, an index; -1 before the first row.
        alarm: Why that is an alarm; empty while it is none.
    """

    def __init__(self, package: Package) -> None:
        self._classes = package.info.classes
        self._reference = package.baseline(package.reference_rows)
        self.rows = 0
        self.given = -1
        self.alarm = ""

    def answered(
        self,
        answers: NDArray[np.float32],
        threshold: float | NDArray[np.float64],
        wanted: Thresholds,
    ) -> dict[str, Any]:
        """Take answers of what serves, oldest first.

        Args:
            answers: Probabilities, ``(n,)`` or ``(n, classes)``, one row at least.
            threshold: The decision threshold in force, or that of each row, ``(n,)``.
            wanted: What the operator asks for.

        Returns:
            The detail of an event when an alarm begins, else an empty one.
        """
        said = decide_classes(answers, threshold)
        others = np.flatnonzero(said != said[-1])
        if len(others) or said[-1] != self.given:
            self.alarm, self.given = "", int(said[-1])
            self.rows = len(said) - (int(others[-1]) + 1 if len(others) else 0)
        else:
            self.rows += len(said)
        share = self._usual(wanted)
        if self.alarm or self.rows < FEWEST or share**self.rows >= CHANCE:
            return {}
        self.alarm = self._words(share)
        return {"class": self._classes[self.given], "rows": self.rows, "reason": self.alarm}

    def _usual(self, wanted: Thresholds) -> float:
        """The share of rows that would be given this class, if the packaged model answered."""
        if self._reference.ndim == 1 and wanted.capacity is not None:
            flagged = wanted.capacity / 1000
            return flagged if self.given else 1 - flagged
        said = decide_classes(self._reference, wanted.bayes_threshold)
        return float((said == self.given).mean())

    def _words(self, share: float) -> str:
        return (
            f"all of the last {self.rows} rows were given class {self._classes[self.given]}, where "
            f"{100 * share:.1f} % are expected"
        )

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"rows": self.rows, "given": self.given, "alarm": self.alarm}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave; an empty state is that of an earlier release."""
        self.rows, self.given = state.get("rows", 0), state.get("given", -1)
        self.alarm = state.get("alarm", "")
