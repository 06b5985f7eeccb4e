"""Recipes: each trains the adapter of a challenger on labelled rows, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .config import HealParameters
from .model import SelfHealingModel
from .rules import RuleSet

EPS = 1e-8


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows in the order in which their labels came, oldest first."""

    features: NDArray[np.float32]
    """``(n, features)``"""
    labels: NDArray[np.float32]
    """``(n,)``, 0 or 1"""

    def __len__(self) -> int:
        return len(self.labels)

    def tail(self, n: int) -> LabelledRows:
        """The newest ``n`` rows."""
        start = max(len(self) - n, 0)
        return LabelledRows(self.features[start:], self.labels[start:])


@dataclass
class Challenger:
    """The adapter that a heal trains, with Adam's moments kept from heal to heal."""

    model: SelfHealingModel
    optimizer: torch.optim.Adam = field(init=False)

    def __init__(self, champion: SelfHealingModel, lr: float) -> None:
        self.model = champion.with_adapter(champion.adapter_state())
        self.model.freeze_for_healing()
        self.optimizer = torch.optim.Adam(self.model.reflexive.parameters(), lr=lr)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put other adapter weights in place and keep the moments."""
        self.model.reflexive.load_state_dict(dict(state))

    def moments(self) -> dict[str, Tensor]:
        """Adam's moments by parameter, ready for safetensors; empty before the first step."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.model.reflexive.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                out[f"{name}/{key}"] = value.detach().clone()
        return out

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Put moments back that `moments` gave."""
        for name, parameter in self.model.reflexive.named_parameters():
            prefix = f"{name}/"
            state: dict[str, Any] = {
                key[len(prefix) :]: value.clone()
                for key, value in moments.items()
                if key.startswith(prefix)
            }
            if state:
                self.optimizer.state[parameter] = state


class Recipe(Protocol):
    """How a heal trains. Seeded by ``generator``; equal input gives equal weights."""

    @property
    def name(self) -> str: ...

    def heal(
        self, challenger: Challenger, rows: LabelledRows, rules: RuleSet, generator: torch.Generator
    ) -> dict[str, float]:
        """Train the challenger's adapter in place; return each loss of the last step."""
        ...


@dataclass(frozen=True)
class ArticleRecipe:
    """The article's heal (article.md, section 3): five full-batch steps on the newest batch.

    ``loss = alpha * real + (1 - alpha) * lambda_lag * consistency + entropy_weight * entropy``
    """

    parameters: HealParameters
    name: str = "article"

    def heal(
        self, challenger: Challenger, rows: LabelledRows, rules: RuleSet, generator: torch.Generator
    ) -> dict[str, float]:
        p = self.parameters
        rows = rows.tail(p.batch_size)
        hidden, labels = _hidden(challenger.model, rows)
        before = _probabilities(challenger.model, hidden)
        conflicts = rules.conflicts(rows.features, before, p.conflict_thr)
        verdicts = torch.from_numpy(rules.verdicts(rows.features))
        weight = torch.tensor(p.pos_weight(fraud_fraction(rows.labels, conflicts)))
        losses: dict[str, float] = {}
        for _ in range(p.heal_steps):
            probabilities = challenger.model.decide(hidden)
            logits = torch.log(probabilities / (1 - probabilities + EPS))
            real = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
            # Without a rule there is nothing to be consistent with.
            consistency = (
                F.binary_cross_entropy(probabilities, verdicts) if len(rules) else real * 0
            )
            entropy = binary_entropy(probabilities)
            loss = (
                p.alpha * real
                + (1 - p.alpha) * p.lambda_lag * consistency
                + p.entropy_weight * entropy
            )
            _step(challenger, loss)
            losses = {
                "real": real.item(),
                "consistency": consistency.item(),
                "entropy": entropy.item(),
                "total": loss.item(),
            }
        return losses


@dataclass(frozen=True)
class ReplayRecipe:
    """The default: minibatches drawn from the bounded buffer of the newest labelled rows.

    Plain cross-entropy on labels alone. Rows are drawn with a recency weight that halves
    every ``replay_half_life`` rows, so that what was learned before a change fades.
    """

    parameters: HealParameters
    name: str = "replay"

    def heal(
        self, challenger: Challenger, rows: LabelledRows, rules: RuleSet, generator: torch.Generator
    ) -> dict[str, float]:
        p = self.parameters
        hidden, labels = _hidden(challenger.model, rows)
        age = torch.arange(len(rows) - 1, -1, -1, dtype=torch.float64)
        weights = torch.pow(0.5, age / p.replay_half_life)
        anchor = {n: v.detach().clone() for n, v in challenger.model.reflexive.named_parameters()}
        losses: dict[str, float] = {}
        for _ in range(p.replay_steps):
            picked = torch.multinomial(
                weights, min(p.replay_batch, len(rows)), replacement=True, generator=generator
            )
            probabilities = challenger.model.decide(hidden[picked])
            real = F.binary_cross_entropy(probabilities.clamp(EPS, 1 - EPS), labels[picked])
            _step(challenger, real)
            losses = {"real": real.item(), "total": real.item()}
        moved = sum(
            float((v.detach() - anchor[n]).square().sum())
            for n, v in challenger.model.reflexive.named_parameters()
        )
        return {**losses, "moved": moved**0.5}


def make_recipe(parameters: HealParameters) -> Recipe:
    """The recipe that the settings name."""
    if parameters.recipe == "article":
        return ArticleRecipe(parameters)
    return ReplayRecipe(parameters)


def fraud_fraction(labels: NDArray[np.float32], conflicts: NDArray[np.bool_]) -> float:
    """Share of true positives among the conflicting rows; 0 when there are none."""
    return float(labels[conflicts].mean()) if conflicts.any() else 0.0


def binary_entropy(p: Tensor) -> Tensor:
    """Mean entropy of the answers, in nats."""
    return -(p * torch.log(p + EPS) + (1 - p) * torch.log(1 - p + EPS)).mean()


def _hidden(model: SelfHealingModel, rows: LabelledRows) -> tuple[Tensor, Tensor]:
    """The frozen backbone's output, computed once a heal, and the labels."""
    with torch.no_grad():
        return model.backbone(torch.from_numpy(rows.features)), torch.from_numpy(rows.labels)


def _probabilities(model: SelfHealingModel, hidden: Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        out: NDArray[np.float32] = model.decide(hidden).numpy()
    return out


def _step(challenger: Challenger, loss: Tensor) -> None:
    challenger.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    challenger.optimizer.step()
