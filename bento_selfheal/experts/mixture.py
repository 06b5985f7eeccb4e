"""The mixture: what the experts say together, as one adapter of the frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.table import EXPERTS

FROZEN, LAYER = "frozen", "layer"
"""The frozen model and the model with its `ReflexiveLayer`, which are in every mixture."""
REACH = 8.0
"""Spreads beyond which a scaled hidden value no longer grows."""
LEAST = 1e-6


@dataclass(frozen=True)
class Voice:
    """How much somebody says in a mixture, and how sure of it."""

    share: float
    sharpness: float
    """What log probabilities are multiplied by"""
    expert: Expert | None = None
    """None for the frozen model and the layer."""


class Mixture(nn.Module):
    """A weighted mean of probabilities: of the frozen model, of its layer and of experts.

    Whoever is linear answers in one product of matrices: a service is asked for few rows at a time,
    where every call costs as much as another.

    Args:
        centre: Means of the hidden vector on the reference set, ``(width,)``.
        spread: Its standard deviations, ``(width,)``.
        classes: Number of classes.
        voices: Who answers, by name; the frozen model alone when not given.
    """

    centre: Tensor
    spread: Tensor
    _weight: Tensor
    _frozen: Tensor
    _shares: Tensor

    def __init__(
        self,
        centre: Tensor,
        spread: Tensor,
        classes: int,
        voices: Mapping[str, Voice] | None = None,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.voices = dict(voices or {FROZEN: Voice(1.0, 1.0)})
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self._fold()

    def _fold(self) -> None:
        """Put everybody who is linear in the hidden vector and the frozen odds side by side."""
        width = len(self.centre)
        zero = torch.zeros(width + 1, self.classes)
        weights, frozen, shares = [], [], []
        others = nn.ModuleDict()
        for name, voice in sorted(self.voices.items()):  # in the order of a snapshot, to the bit
            linear = (zero, 1.0) if name == FROZEN else None
            if voice.expert is not None and (linear := voice.expert.linear()) is None:
                others[name] = voice.expert
            if linear is not None:
                weights.append(voice.sharpness * linear[0])
                frozen.append(voice.sharpness * linear[1])
                shares.append(voice.share)
        self._others = others
        side_by_side = torch.cat([zero[:, :0], *weights], dim=1)
        self.register_buffer("_weight", side_by_side.contiguous())
        self.register_buffer("_frozen", torch.tensor(frozen).reshape(1, -1, 1))
        self.register_buffer("_shares", torch.tensor(shares).reshape(1, -1, 1))

    @property
    def asks_layer(self) -> bool:
        """Whether the model's layer has anything to say."""
        return LAYER in self.voices

    def scale(self, hidden: Tensor) -> Tensor:
        """Hidden vectors as experts want them, ``(n, width)``."""
        return ((hidden - self.centre) / self.spread).clamp(-REACH, REACH)

    def forward(self, hidden: Tensor, frozen: Tensor, layer: Tensor | None) -> Tensor:
        """Probabilities, ``(n, classes)``.

        Args:
            hidden: The frozen backbone's output, ``(n, width)``.
            frozen: The frozen model's probabilities, ``(n, classes)``.
            layer: Those of the model with its layer, ``(n, classes)``; None where it says nothing.
        """
        odds, scaled = log_odds(frozen), self.scale(hidden)
        out = torch.zeros_like(frozen)
        if self._weight.shape[1]:
            said = torch.addmm(self._weight[-1], scaled, self._weight[:-1])
            said = said.reshape(len(hidden), -1, self.classes) + self._frozen * odds.unsqueeze(1)
            out = (self._shares * torch.softmax(said, dim=2)).sum(dim=1)
        if layer is not None and self.asks_layer:
            out = out + _voiced(self.voices[LAYER], log_odds(layer))
        for name, expert in self._others.items():
            out = out + _voiced(self.voices[name], expert(scaled, odds))
        return out

    def tensors(self) -> dict[str, Tensor]:
        """All that it answers from, for a snapshot."""
        classes = torch.tensor(self.classes)
        out = {"centre": self.centre, "spread": self.spread, "classes": classes}
        for name, voice in self.voices.items():
            pair = [voice.share, voice.sharpness]
            out[f"{name}.share"] = torch.tensor(pair, dtype=torch.float64)
            if voice.expert is not None:
                own = dict(voice.expert.named_buffers())
                out.update({f"{name}.{key}": value for key, value in own.items()})
        return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in out.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], width: int) -> Mixture:
        """The mixture that `tensors` were taken of.

        Args:
            tensors: All that it answers from.
            width: Width of the hidden vector.

        Raises:
            RuntimeError: They are not those of a mixture over such vectors, or an expert is not
                known.
        """
        missing = sorted({"centre", "spread", "classes"} - set(tensors))
        if missing:
            raise RuntimeError(f"the mixture has no {', '.join(missing)}")
        for name in ("centre", "spread"):
            if tensors[name].shape != (width,):
                given = tuple(tensors[name].shape)
                raise RuntimeError(f"{name}: expected the shape {(width,)}, got {given}")
        centre, spread, classes = (tensors[name] for name in ("centre", "spread", "classes"))
        voices = {}
        for name in (key.removesuffix(".share") for key in tensors if key.endswith(".share")):
            share, sharpness = tensors[f"{name}.share"].tolist()
            alone = name in (FROZEN, LAYER)
            expert = None if alone else _expert(name, tensors, width, int(classes))
            voices[name] = Voice(share, sharpness, expert)
        return cls(centre, spread, int(classes), voices)


def _voiced(voice: Voice, said: Tensor) -> Tensor:
    return voice.share * torch.softmax(voice.sharpness * said, dim=1)


def log_odds(probabilities: Tensor) -> Tensor:
    """Centred log probabilities, ``(n, classes)``."""
    logs = probabilities.clamp(LEAST, 1).log()
    return logs - logs.mean(dim=1, keepdim=True)


def _expert(name: str, tensors: Mapping[str, Tensor], width: int, classes: int) -> Expert:
    if name not in EXPERTS:
        raise RuntimeError(f"there is no expert {name!r}")
    made = EXPERTS[name](width, classes)
    own = under(f"{name}.", tensors)
    own.pop("share")
    made.load(own)
    return made


def under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under names that begin with a prefix, by the rest of the names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
