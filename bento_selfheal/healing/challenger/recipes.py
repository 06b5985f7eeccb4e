"""Recipes: each trains the adapter of a challenger on labelled rows, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.config.parameters import HealParameters
from bento_selfheal.healing.challenger.anchor import Anchor
from bento_selfheal.healing.challenger.challenger import Challenger
from bento_selfheal.healing.challenger.schedule import Schedule
from bento_selfheal.healing.labels.labelled_rows import LabelledRows
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.rules import RuleSet
from bento_selfheal.scoring.probabilities import cross_entropy, own_copy, targets

EPS = 1e-8
HALF_LIVES = 7.0
DEVICE_TOLERANCE = 1e-3
"""Probabilities after one heal on CUDA and on the CPU: float32 sums are taken in another order,
and every step of Adam builds on the last one."""


class Recipe(Protocol):
    """How a heal trains, on the challenger's device. Seeded by ``generator``, which lies on the
    CPU so that every device gets the same draws; equal input gives equal weights."""

    @property
    def name(self) -> str:
        """Its name in the settings, for snapshots and events."""

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
        """Train in place on the newest batch of the rows; each loss of the last step."""
        p = self.parameters
        rows = rows.tail(p.batch_size)
        hidden, labels = hidden_and_labels(challenger.model, rows)
        before = _probabilities(challenger.model, hidden)
        conflicts = rules.conflicts(rows.features, before, p.conflict_thr)
        verdicts = torch.from_numpy(rules.verdicts(rows.features)).to(hidden.device)
        share = fraud_fraction(rows.labels, conflicts)
        weight = torch.tensor(Schedule(p).class_weight(share))
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
            step(challenger, loss)
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
        """Train in place on rows drawn by their age; the loss, and how far the weights moved."""
        p, anchor, schedule = self.parameters, challenger.anchor, Schedule(self.parameters)
        uncommon = challenger.seen * rows.uncommon
        anchor_weight = 0.0 if anchor is None else schedule.anchor_weight(uncommon)
        if anchor is not None and anchor_weight > 0:
            fit_anchor(p, challenger, anchor, rows)
        half_life = schedule.half_life(rows.rarest)
        rows = rows.since(HALF_LIVES * half_life)
        weights = rows.recency(half_life)
        steps = schedule.steps(challenger.rounds, challenger.rows_per_label, anchor_weight)
        batch, losses = min(p.replay_batch, len(rows)), dict[str, float]()
        drawn = torch.multinomial(weights, steps * batch, replacement=True, generator=generator)
        for picked in drawn.reshape(steps, batch):
            hidden, truth = soft_targets(challenger, rows.at(picked.numpy()), anchor_weight)
            real = cross_entropy(challenger.model.decide(hidden), truth)
            step(challenger, real)
            losses = {"real": real.item(), "total": real.item()}
        moved = challenger.bound(p.adapter_norm)
        challenger.rounds += 1
        decay = schedule.average_decay(challenger.rows_per_label, anchor_weight)
        challenger.follow(max(1 - decay, 1 / challenger.rounds))
        return {**losses, "moved": moved, "lean": anchor_weight}


def fit_anchor(
    parameters: HealParameters, challenger: Challenger, anchor: Anchor, rows: LabelledRows
) -> None:
    """Let the anchor follow the labels, where enough came since it last did."""
    schedule = Schedule(parameters)
    half_life = schedule.anchor_half_life(rows.rarest, challenger.rows_per_label)
    if not anchor.due(challenger.seen, half_life):
        return
    rows = rows.since(HALF_LIVES * half_life)
    said = frozen_answers(challenger, rows)
    truth = targets(torch.from_numpy(rows.labels).to(said.device), said)
    anchor.fit(said, rows.features, truth, rows.recency(half_life), challenger.seen)


def fraud_fraction(labels: NDArray[np.float32], conflicts: NDArray[np.bool_]) -> float:
    """Share of true positives among the conflicting rows; 0 when there are none."""
    return float(labels[conflicts].mean()) if conflicts.any() else 0.0


def binary_entropy(p: Tensor) -> Tensor:
    """Mean entropy of the answers, in nats."""
    return -(p * torch.log(p + EPS) + (1 - p) * torch.log(1 - p + EPS)).mean()


def hidden_and_labels(model: SelfHealingModel, rows: LabelledRows) -> tuple[Tensor, Tensor]:
    """The frozen backbone's output, computed once a row, and the labels, on the model's device."""
    labels = torch.from_numpy(rows.labels).to(model.device)
    if rows.hidden is not None:
        return rows.hidden.to(model.device), labels
    with torch.no_grad():
        return model.backbone(own_copy(rows.features, model.device)), labels


def soft_targets(
    challenger: Challenger, rows: LabelledRows, anchor_weight: float
) -> tuple[Tensor, Tensor]:
    """Hidden vectors, and what the layer trains towards: labels and, to a share, the anchor's soft
    ones; on the model's device."""
    hidden, labels = hidden_and_labels(challenger.model, rows)
    said = frozen_answers(challenger, rows)
    truth = targets(labels, said)
    if challenger.anchor is None or anchor_weight == 0:
        return hidden, truth
    soft = challenger.anchor(said, rows.features)
    return hidden, (1 - anchor_weight) * truth + anchor_weight * soft


def frozen_answers(challenger: Challenger, rows: LabelledRows) -> Tensor:
    """What the frozen model says of rows, on its device."""
    baseline = challenger.baseline
    if rows.frozen is not None:
        return rows.frozen.to(baseline.device)
    return answer(baseline, hidden_and_labels(baseline, rows)[0])


def answer(model: SelfHealingModel, hidden: Tensor) -> Tensor:
    """What a model says of hidden vectors ``(n, hidden)``, without gradients."""
    with torch.no_grad():
        return model.decide(hidden)


def _probabilities(model: SelfHealingModel, hidden: Tensor) -> NDArray[np.float32]:
    out: NDArray[np.float32] = answer(model, hidden).cpu().numpy()
    return out


def step(challenger: Challenger, loss: Tensor) -> None:
    """One step of the challenger's optimizer down a loss."""
    challenger.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    challenger.optimizer.step()
