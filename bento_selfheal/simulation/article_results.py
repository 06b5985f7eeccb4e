"""What the article publishes of its experiment: stages, a log by batch, a registry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from bento_selfheal.core.records import Phase, State
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.article_settings import ExperimentSettings


@dataclass(frozen=True)
class BatchRow:
    """One batch of the article's log."""

    batch: int
    state: State
    z: float
    conflicts: int
    fraud_frac: float
    baseline: float
    shadow: float
    accuracy: float
    f1: float
    precision: float
    recall: float
    lift: float
    lift_before_heal: float
    action: str


@dataclass(frozen=True)
class RegistryRow:
    """One snapshot of the article's registry."""

    version: int
    phase: Phase
    batch: int
    accuracy: float
    f1: float
    reason: str
    state: dict[str, Tensor] = field(repr=False)


@dataclass(frozen=True)
class ExperimentResult:
    """All that the article publishes."""

    settings: ExperimentSettings
    stages: dict[str, Scores]
    log: list[BatchRow]
    registry: list[RegistryRow]
    mu: float
    sigma: float
    v14_clean: float
    v14_drifted: float
    rollbacks: int

    @property
    def heals(self) -> int:
        """How many heals there were."""
        return sum(row.phase is Phase.POST for row in self.registry)

    @property
    def best_snapshot(self) -> RegistryRow | None:
        """The post-heal snapshot with the highest F1."""
        return best_healed(self.registry)

    def as_dict(self) -> dict[str, Any]:
        """One JSON object: stages, lift, heals, rollbacks, best snapshot, settings, log."""
        best = self.best_snapshot
        return {
            "stages": {name: scores.as_dict() for name, scores in self.stages.items()},
            "lift": _spread([row.lift for row in self.log]),
            "lift_before_heal": _spread([row.lift_before_heal for row in self.log]),
            "heals": self.heals,
            "rollbacks": self.rollbacks,
            "best_snapshot": None if best is None else _registry_facts(best),
            "mu": self.mu,
            "sigma": self.sigma,
            "v14_mean": {"clean": self.v14_clean, "drifted": self.v14_drifted},
            "settings": self.settings.model_dump(),
            "log": [row.__dict__ for row in self.log],
            "registry": [_registry_facts(row) for row in self.registry],
        }


def best_healed(registry: Iterable[RegistryRow]) -> RegistryRow | None:
    """The post-heal snapshot with the highest F1, as the article chooses: the first of equals."""
    healed = [row for row in registry if row.phase is Phase.POST]
    return max(healed, key=lambda row: row.f1, default=None)


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "mean": float(np.mean(values)), "max": max(values)}


def _registry_facts(row: RegistryRow) -> dict[str, Any]:
    return {k: v for k, v in row.__dict__.items() if k != "state"}
