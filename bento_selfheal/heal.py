"""Recipes: each trains the adapter of a challenger on labelled rows, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .anchor import Anchor
from .answers import cross_entropy, targets
from .config import HealParameters
from .model import SelfHealingModel
from .rules import RuleSet

EPS = 1e-8
HALF_LIVES = 7.0
DEVICE_TOLERANCE = 1e-3
"""Probabilities after one heal on CUDA and on the CPU: float32 sums are taken in another order,
and every step of Adam builds on the last one."""


@dataclass(frozen=True)
class LabelledRows:
    """Labelled rows in the order in which their labels came, oldest first."""

    features: NDArray[np.float32]
    """``(n, features)``"""
    labels: NDArray[np.float32]
    """``(n,)``, indices of classes"""
    hidden: Tensor | None = None
    """``(n, hidden)``, the frozen backbone's output where it is known already"""
    weights: NDArray[np.float32] | None = None
    """``(n,)``, rows of its class that each stands for; each for itself where there is none"""
    ages: NDArray[np.int64] | None = None
    """``(n,)``, labels that came after each; where there is none, no row is missing"""

    def __len__(self) -> int:
        return len(self.labels)

    def tail(self, n: int) -> LabelledRows:
        """The newest ``n`` rows."""
        cut = slice(max(len(self) - n, 0), None)
        return LabelledRows(
            self.features[cut],
            self.labels[cut],
            None if self.hidden is None else self.hidden[cut],
            None if self.weights is None else self.weights[cut],
            None if self.ages is None else self.ages[cut],
        )

    def since(self, age: float) -> LabelledRows:
        """The rows after which fewer labels came than this."""
        return self.tail(int((self.age() < age).sum()))

    def age(self) -> NDArray[np.int64]:
        """Labels that came after each row, ``(n,)``."""
        return np.arange(len(self) - 1, -1, -1) if self.ages is None else self.ages

    def recency(self, half_life: float) -> Tensor:
        """What each stands for, halved every ``half_life`` labels, ``(n,)``."""
        fresh = torch.pow(0.5, torch.from_numpy(self.age()).double() / half_life)
        return fresh if self.weights is None else fresh * torch.from_numpy(self.weights)

    @property
    def rarest(self) -> float:
        """Share of the rarest class that is there at all; 1 without rows."""
        shares = self._shares()
        return float(shares.min()) if len(self) else 1.0

    @property
    def uncommon(self) -> float:
        """Share of the rows that are not of the commonest class."""
        return 1 - float(self._shares().max()) if len(self) else 0.0

    def _shares(self) -> NDArray[np.float64]:
        counts = np.bincount(self.labels.astype(np.int64), self.weights)
        return np.asarray(counts[counts > 0] / max(counts.sum(), 1))


class Challenger:
    """A line of adapters that heals train, with Adam's moments kept from heal to heal.

    Attributes:
        model: What training moves.
        answers: What answers, is compared and is promoted: the moving average of `model`.
        shadow: The frozen model as trained.
        anchor: The shadow as recent labels have it.
        rounds: Rounds of training since the line began or a change was seen.
        seen: Labels that the line has trained on, the present ones included.
        pace: Rows answered for each label that came; few labels are trained on for longer.
    """

    def __init__(
        self,
        champion: SelfHealingModel,
        lr: float,
        shadow: SelfHealingModel | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        state = champion.adapter_state()
        self.model = champion.with_adapter(state)
        self.model.freeze_for_healing()
        self.answers = champion.with_adapter(state).requires_grad_(False)
        self.shadow = shadow or champion
        self.anchor = anchor
        self.optimizer = torch.optim.Adam(self.model.reflexive.parameters(), lr=lr)
        self.rounds = 0
        self.seen = 0
        self.pace = 1.0

    def load(self, state: Mapping[str, Tensor], average: Mapping[str, Tensor]) -> None:
        """Put other adapter weights in place and keep the moments."""
        self.model.reflexive.load_state_dict(dict(state))
        self.answers.reflexive.load_state_dict(dict(average))

    def follow(self, share: float) -> None:
        """Move the average by ``share`` of the way to the trained weights."""
        moved = self.model.reflexive.state_dict()
        with torch.no_grad():
            for name, value in self.answers.reflexive.state_dict().items():
                value.lerp_(moved[name], share)

    def bound(self, limit: float) -> float:
        """Keep the trained weights within ``limit`` of the shadow's; their distance, Euclidean."""
        clean = self.shadow.reflexive.state_dict()
        with torch.no_grad():
            own = self.model.reflexive.state_dict()
            square = sum(float((own[n] - clean[n]).square().sum()) for n in own)
            distance = math.sqrt(square)
            if distance > limit:
                for name, value in own.items():
                    value.copy_(clean[name] + (value - clean[name]) * (limit / distance))
        return min(distance, limit)

    def moments(self) -> dict[str, Tensor]:
        """Adam's moments by parameter, on the CPU; empty before the first step."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.model.reflexive.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                out[f"{name}/{key}"] = value.detach().to("cpu", copy=True)
        return out

    def load_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Put moments back that `moments` gave."""
        for name, parameter in self.model.reflexive.named_parameters():
            prefix = f"{name}/"
            kept = {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
            # Adam counts its steps on the CPU, wherever the parameter lies.
            state: dict[str, Any] = {
                key: value.to("cpu" if key == "step" else parameter.device, copy=True)
                for key, value in kept.items()
            }
            if state:
                self.optimizer.state[parameter] = state


class Recipe(Protocol):
    """How a heal trains, on the challenger's device. Seeded by ``generator``, which lies on the
    CPU so that every device gets the same draws; equal input gives equal weights."""

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
        verdicts = torch.from_numpy(rules.verdicts(rows.features)).to(hidden.device)
        weight = torch.tensor(p.pos_weight(fraud_fraction(rows.labels, conflicts)))
        weight = weight.to(hidden.device)
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
        challenger.follow(1.0)
        return losses


@dataclass(frozen=True)
class ReplayRecipe:
    """The default: minibatches drawn from the bounded buffer of the newest labelled rows.

    Cross-entropy on labels, each row drawn half as often every `replay_half_life` labels, so
    that what was learned before a change fades. A young line leans on the `Anchor`: towards its
    soft labels it trains first, and to the share `anchor_floor` for good. What answers is a
    moving average of the weights, which is steadier than any one of them.
    """

    parameters: HealParameters
    name: str = "replay"

    def heal(
        self, challenger: Challenger, rows: LabelledRows, rules: RuleSet, generator: torch.Generator
    ) -> dict[str, float]:
        p, anchor = self.parameters, challenger.anchor
        lean = 0.0 if anchor is None else p.lean(challenger.seen * rows.uncommon)
        if anchor is not None and lean > 0:
            self._fit(challenger, anchor, rows)
        half_life = p.half_life(rows.rarest)
        rows = rows.since(HALF_LIVES * half_life)
        hidden, labels = _hidden(challenger.model, rows)
        weights = rows.recency(half_life)
        losses: dict[str, float] = {}
        steps = p.steps(challenger.rounds, challenger.pace, lean)
        batch = min(p.replay_batch, len(rows))
        drawn = torch.multinomial(weights, steps * batch, replacement=True, generator=generator)
        for picked in drawn.reshape(steps, batch):
            at = picked.to(hidden.device)
            answers = challenger.model.decide(hidden[at])
            truth = targets(labels[at], answers)
            if anchor is not None and lean > 0:
                said = _said(challenger.shadow, hidden[at])
                soft = anchor(said, rows.features[picked.numpy()])
                truth = (1 - lean) * truth + lean * soft
            real = cross_entropy(answers, truth)
            _step(challenger, real)
            losses = {"real": real.item(), "total": real.item()}
        moved = challenger.bound(p.adapter_norm)
        challenger.rounds += 1
        challenger.follow(max(1 - p.kept(challenger.pace, lean), 1 / challenger.rounds))
        return {**losses, "moved": moved, "lean": lean}

    def _fit(self, challenger: Challenger, anchor: Anchor, rows: LabelledRows) -> None:
        """Let the anchor follow the labels, where enough came since it last did."""
        half_life = self.parameters.anchor_memory(rows.rarest, challenger.pace)
        if not anchor.due(challenger.seen, half_life):
            return
        rows = rows.since(HALF_LIVES * half_life)
        hidden, labels = _hidden(challenger.shadow, rows)
        said = _said(challenger.shadow, hidden)
        anchor.fit(said, rows.features, targets(labels, said), rows.recency(half_life),
                   challenger.seen)  # fmt: skip


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
    """The frozen backbone's output, computed once a row, and the labels, on the model's device."""
    labels = torch.from_numpy(rows.labels).to(model.device)
    if rows.hidden is not None:
        return rows.hidden.to(model.device), labels
    with torch.no_grad():
        return model.backbone(torch.from_numpy(rows.features).to(model.device)), labels


def _said(model: SelfHealingModel, hidden: Tensor) -> Tensor:
    with torch.no_grad():
        return model.decide(hidden)


def _probabilities(model: SelfHealingModel, hidden: Tensor) -> NDArray[np.float32]:
    out: NDArray[np.float32] = _said(model, hidden).cpu().numpy()
    return out


def _step(challenger: Challenger, loss: Tensor) -> None:
    challenger.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    challenger.optimizer.step()
