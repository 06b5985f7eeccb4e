"""The race: experts learn side by side, and the better they said beforehand, the more they say."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.mixture import FROZEN, LAYER, Mixture, log_odds, under
from bento_selfheal.experts.table import EXPERTS
from bento_selfheal.model import columns
from bento_selfheal.packaging.package import Package

SHARPNESS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""An expert's log probabilities are multiplied by the one of these that would have been best."""
HALF_LIFE = 300.0
"""Labels after which a loss counts half."""
PRIOR = 4.0
"""Nats by which the frozen model is ahead of everybody before there are labels."""
LEAST_SHARE = 0.01
"""An expert with a smaller share says nothing: what serves stays quick."""
FLOOR = 1e-3
"""Least probability of the truth in a loss: one surprise is not the end."""
SMALLEST_SPREAD = 1e-3
ROUND = 25


@dataclass(frozen=True)
class Lesson:
    """Labelled rows as experts learn them, on the CPU."""

    hidden: Tensor
    """The frozen backbone's output, ``(n, width)``"""
    frozen: Tensor
    """What the frozen model says, ``(n, classes)``"""
    labels: Tensor
    """Indices of classes, ``(n,)``"""
    weights: Tensor
    """Rows that each stands for, ``(n,)``"""

    def part(self, cut: slice) -> Lesson:
        """Some rows that follow each other."""
        return Lesson(self.hidden[cut], self.frozen[cut], self.labels[cut], self.weights[cut])


class Race:
    """All experts, with their losses on labels that they had not learned yet.

    Args:
        package: The packaged model; its reference set is what every expert learns first.

    Attributes:
        experts: Everybody but the frozen model and the layer, by name.
        seen: Labels learned, without the reference set.
    """

    def __init__(self, package: Package) -> None:
        self._package = package
        hidden = package.embed(package.reference_rows)
        spread = hidden.std(dim=0, correction=0)
        spread = torch.where(spread < SMALLEST_SPREAD, torch.ones_like(spread), spread)
        self._clean = Mixture(hidden.mean(dim=0), spread, len(package.info.classes))
        width = hidden.shape[1]
        self.experts: dict[str, Expert] = {
            name: make(width, self._clean.classes) for name, make in EXPERTS.items()
        }
        self.seen = 0
        self._losses = torch.zeros(len(self.experts) + 2, len(SHARPNESS), dtype=torch.float64)
        frozen = columns(torch.from_numpy(package.baseline(package.reference_rows)))
        labels = torch.from_numpy(package.reference_labels)
        self.study(Lesson(hidden, frozen, labels, torch.ones(len(labels))))

    @property
    def names(self) -> list[str]:
        """Who takes part, in the order of the losses."""
        return [FROZEN, LAYER, *self.experts]

    def learn(self, lesson: Lesson, layer: Tensor, half_life: float = HALF_LIFE) -> None:
        """Score everybody on labels that are new to all, then learn them.

        Args:
            lesson: The rows.
            layer: What the model with its layer said of them before, ``(n, classes)``.
            half_life: Labels after which a loss counts half.
        """
        said = self._say(lesson, layer)
        each = torch.stack([torch.softmax(s * said, dim=2) for s in SHARPNESS])
        at = torch.arange(len(lesson.labels))
        truth = each[:, :, at, lesson.labels.long()].clamp_min(FLOOR).double()
        fade = 0.5 ** (float(lesson.weights.sum()) / half_life)
        fresh = -(truth.log() * lesson.weights.double()).sum(dim=2).T
        self._losses = self._losses * fade + fresh
        self.seen += len(lesson.labels)
        self._teach(lesson)

    def study(self, lesson: Lesson) -> None:
        """Learn older rows; nobody is scored on them."""
        for at in range(0, len(lesson.labels), ROUND):
            self._teach(lesson.part(slice(at, at + ROUND)))

    def mixture(self) -> Mixture:
        """The experts as they stand, by their shares."""
        best = self._losses.min(dim=1)
        behind = best.values - best.values.min()
        behind[1:] += PRIOR
        shares = torch.softmax(-behind, dim=0)
        shares = torch.where(shares < LEAST_SHARE, torch.zeros_like(shares), shares)
        shares = shares / shares.sum()
        made = Mixture(self._clean.centre, self._clean.spread, self._clean.classes)
        made.shares, made.sharpness = {}, {}
        lead = SHARPNESS.index(1.0) if not self._losses.any() else None
        for i, name in enumerate(self.names):
            if float(shares[i]) == 0:
                continue
            made.shares[name] = float(shares[i])
            made.sharpness[name] = SHARPNESS[int(best.indices[i]) if lead is None else lead]
            if name in self.experts:
                made.experts[name] = deepcopy(self.experts[name])
        return made

    def _say(self, lesson: Lesson, layer: Tensor) -> Tensor:
        """Log probabilities up to a constant of everybody, ``(names, n, classes)``."""
        scaled, odds = self._clean.scale(lesson.hidden), log_odds(lesson.frozen)
        with torch.no_grad():
            return torch.stack(
                [odds, log_odds(layer), *(one(scaled, odds) for one in self.experts.values())]
            )

    def _teach(self, lesson: Lesson) -> None:
        scaled, odds = self._clean.scale(lesson.hidden), log_odds(lesson.frozen)
        with torch.no_grad():
            for expert in self.experts.values():
                expert.learn(scaled, odds, lesson.labels, lesson.weights)

    def state(self) -> dict[str, Any]:
        """As tensors, for the checkpoint."""
        out: dict[str, Any] = {"losses": self._losses, "seen": self.seen}
        for name, expert in self.experts.items():
            out.update({f"{name}.buffer.{k}": v.clone() for k, v in expert.named_buffers()})
            out.update({f"{name}.memory.{k}": v.clone() for k, v in expert.memory().items()})
        return out

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._losses, self.seen = state["losses"], state["seen"]
        for name, expert in self.experts.items():
            expert.load(under(f"{name}.buffer.", state))
            expert.remember(under(f"{name}.memory.", state))
