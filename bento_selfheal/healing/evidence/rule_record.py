"""How often each rule was right on the labels that came."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.rules import RuleSet

MEMORY = 1000.0
FEWEST = 20.0


class RuleRecord:
    """Precision and coverage of each rule on labels, fading by half every 1,000 labels.

    Args:
        rules: The rules; their trust follows the record.
        rows: The reference set, on which each rule showed what it is worth, ``(m, features)``.
        labels: Its labels, ``(m,)``.
    """

    def __init__(
        self, rules: RuleSet, rows: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> None:
        self._rules = rules
        self._targets = np.asarray([rule.target for rule in rules.rules])
        # For each rule: rows, rows it fired on, hits among those, rows of its class.
        self.counts: NDArray[np.float64] = self._count(rows, labels)
        self._worth = self._gain(self.counts)
        self.counts = np.zeros_like(self.counts)

    def update(self, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Take newly labelled rows; a rule that is worth less than it was loses weight."""
        if not len(self._rules):
            return
        self.counts = self.counts * 0.5 ** (len(rows) / MEMORY) + self._count(rows, labels)
        left = self._gain(self.counts) / np.maximum(self._worth, 1e-9)
        judged = self.counts[1] >= FEWEST
        self._rules.trust = np.where(judged, np.clip(left, 0.0, 1.0), self._rules.trust)

    def status(self) -> list[dict[str, Any]]:
        """By rule: precision and coverage on recent labels, and what is left of its weight."""
        rows, fired, hits, _ = self.counts
        return [
            {
                "rule": str(rule),
                "precision": float(hits[i] / fired[i]) if fired[i] else None,
                "coverage": float(fired[i] / rows[i]) if rows[i] else None,
                "trust": float(self._rules.trust[i]),
            }
            for i, rule in enumerate(self._rules.rules)
        ]

    @property
    def in_force(self) -> RuleSet:
        """The rules, each as heavy as its record lets it be."""
        return self._rules

    def state(self) -> dict[str, Any]:
        """As JSON values, for the checkpoint."""
        return {"counts": self.counts.tolist(), "trust": self._rules.trust.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave, the rules' trust included."""
        self.counts = np.asarray(state["counts"])
        self._rules.trust = np.asarray(state["trust"])

    def _count(self, rows: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float64]:
        fires = self._rules.fires(rows)
        own = np.asarray(labels)[:, None] == self._targets
        return np.stack(
            [np.full(fires.shape[1], len(rows)), fires.sum(0), (fires & own).sum(0), own.sum(0)]
        ).astype(np.float64)

    @staticmethod
    def _gain(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Precision above what naming the class at random would have."""
        rows, fired, hits, own = counts
        return np.asarray(hits / np.maximum(fired, 1e-9) - own / np.maximum(rows, 1e-9))
