"""How often rules and model agree, compared with the reference set."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.packaging.package import Package
from bento_selfheal.rules import RuleSet


class Agreement:
    """How often rules and model agree, against the reference set: a canary that needs no label.

    Args:
        rules: The rules; without any it stays silent.
        package: The packaged model, whose reference set says what is usual.
        window: Batches in the rolling mean.
    """

    def __init__(self, rules: RuleSet, package: Package, window: int) -> None:
        self._rules = rules
        self._window = window
        agree = rules.agreement(package.reference_rows, package.baseline(package.reference_rows))
        self.usual = float(agree.mean())
        self._reference = len(agree)
        self.recent: list[tuple[int, int]] = []

    def update(self, rows: NDArray[np.float32], answers: NDArray[np.float32]) -> None:
        """Take one batch of rows and answers."""
        if len(self._rules):
            agree = self._rules.agreement(rows, answers)
            self.recent = [*self.recent, (int(agree.sum()), len(agree))][-self._window :]

    @property
    def now(self) -> float | None:
        """Share of rows on which they agree, over the window."""
        rows = sum(n for _, n in self.recent)
        return sum(hits for hits, _ in self.recent) / rows if rows else None

    @property
    def z(self) -> float:
        """Distance from the usual share, in standard errors."""
        now, rows = self.now, sum(n for _, n in self.recent)
        if now is None:
            return 0.0
        usual = (self.usual * self._reference + 1) / (self._reference + 2)
        error = math.sqrt(usual * (1 - usual) * (1 / rows + 1 / self._reference))
        return abs(now - self.usual) / error
