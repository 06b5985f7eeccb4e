"""The adapter that trains while another one serves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bento_selfheal.experts.race import Race
from bento_selfheal.healing.challenger.anchor import Anchor
from bento_selfheal.healing.challenger.past import Past
from bento_selfheal.model import SelfHealingModel


class Challenger:
    """A line of adapters that heals train, with Adam's moments kept from heal to heal.

    Attributes:
        model: What training moves.
        answers: What answers, is compared and is promoted: the moving average of `model`.
        baseline: The frozen model as trained.
        anchor: The baseline as recent labels have it.
        race: The experts beside the layer; None where there is only the layer.
        past: What the line was like before; empty where there is no race.
        rounds: Rounds of training since the line began or a change was seen.
        seen: Labels that the line has trained on, the present ones included.
        examined: Whether the race has learned the labels from before the line began.
        rows_per_label: Rows answered for each label that came; few are trained on for longer.
    """

    def __init__(
        self,
        champion: SelfHealingModel,
        lr: float,
        baseline: SelfHealingModel | None = None,
        anchor: Anchor | None = None,
        race: Race | None = None,
    ) -> None:
        state = champion.adapter_state()
        self.model = champion.with_adapter(state)
        self.model.mixture = None
        self.model.freeze_for_healing()
        self.answers = champion.with_adapter(state).requires_grad_(False)
        self.baseline = baseline or champion
        self.anchor = anchor
        self.race = race
        self.past = Past()
        self.optimizer = torch.optim.Adam(self.model.reflexive.parameters(), lr=lr, fused=True)
        self.rounds = 0
        self.seen = 0
        self.examined = False
        self.rows_per_label = 1.0

    def load(self, state: Mapping[str, Tensor], average: Mapping[str, Tensor]) -> None:
        """Put other adapter weights in place and keep the moments."""
        self.model.reflexive.load_state_dict(dict(state))
        self.answers.reflexive.load_state_dict(dict(average))

    def follow(self, share: float) -> None:
        """Move the average by ``share`` of the way to the trained weights, as a layer of its own:
        what serves may share the one that it was."""
        before = self.answers.reflexive
        pairs = zip(before.parameters(), self.model.reflexive.parameters(), strict=True)
        moved = {
            id(old): nn.Parameter(torch.lerp(old.detach(), new.detach(), share), old.requires_grad)
            for old, new in pairs
        }
        self.answers.reflexive = deepcopy(before, moved)

    def bound(self, limit: float) -> float:
        """Keep the trained weights near the baseline's; their Euclidean distance."""
        clean = self.baseline.reflexive.state_dict()
        with torch.no_grad():
            own = self.model.reflexive.state_dict()
            square = sum(float((own[n] - clean[n]).square().sum()) for n in own)
            distance = math.sqrt(square)
            if distance > limit:
                for name, value in own.items():
                    value.copy_(clean[name] + (value - clean[name]) * (limit / distance))
        return min(distance, limit)

    def context(self, asked: NDArray[np.int64] | None) -> Tensor | None:
        """What the rows around each were like when it was asked, ``(n, inputs)``; None where no
        expert wants to know.

        Args:
            asked: As `Past.when` takes it; None where it is not known.
        """
        now = None if self.race is None else self.race.context
        if now is None or asked is None or not len(asked):
            return None
        return self.past.contexts(asked, now)

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
