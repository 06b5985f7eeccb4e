"""The mixture: what the experts say together, as one adapter of the frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.table import EXPERTS

FROZEN, LAYER = "frozen", "layer"
"""The frozen model and the model with its `ReflexiveLayer`, which are in every mixture."""
REACH = 8.0
"""Spreads beyond which a scaled hidden value no longer grows."""
LEAST = 1e-6


class Mixture(nn.Module):
    """A weighted mean of probabilities: of the frozen model, of its layer and of experts.

    Args:
        centre: Means of the hidden vector on the reference set, ``(width,)``.
        spread: Its standard deviations, ``(width,)``.
        classes: Number of classes.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, centre: Tensor, spread: Tensor, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        self.experts = nn.ModuleDict()
        self.shares: dict[str, float] = {FROZEN: 1.0}
        self.sharpness: dict[str, float] = {FROZEN: 1.0}

    def scale(self, hidden: Tensor) -> Tensor:
        """Hidden vectors as experts want them, ``(n, width)``."""
        return ((hidden - self.centre) / self.spread).clamp(-REACH, REACH)

    def forward(self, hidden: Tensor, frozen: Tensor, layer: Tensor) -> Tensor:
        """Probabilities, ``(n, classes)``.

        Args:
            hidden: The frozen backbone's output, ``(n, width)``.
            frozen: The frozen model's probabilities, ``(n, classes)``.
            layer: Those of the model with its layer, ``(n, classes)``.
        """
        odds, given = log_odds(frozen), {LAYER: log_odds(layer)}
        given[FROZEN] = odds
        scaled = self.scale(hidden)
        out = torch.zeros_like(frozen)
        for name, share in sorted(self.shares.items()):  # in the order of a snapshot, to the bit
            said = given[name] if name in given else self.experts[name](scaled, odds)
            out = out + share * torch.softmax(self.sharpness[name] * said, dim=1)
        return out

    def tensors(self) -> dict[str, Tensor]:
        """All that it answers from, for a snapshot."""
        classes = torch.tensor(self.classes)
        out = {"centre": self.centre, "spread": self.spread, "classes": classes}
        for name, share in self.shares.items():
            out[f"{name}.share"] = torch.tensor([share, self.sharpness[name]], dtype=torch.float64)
            if name in self.experts:
                own = dict(self.experts[name].named_buffers())
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
        made = cls(tensors["centre"], tensors["spread"], int(tensors["classes"]))
        names = [key.removesuffix(".share") for key in tensors if key.endswith(".share")]
        made.shares, made.sharpness = {}, {}
        for name in names:
            share, sharpness = tensors[f"{name}.share"].tolist()
            made.shares[name], made.sharpness[name] = share, sharpness
            if name not in (FROZEN, LAYER):
                made.experts[name] = _expert(name, tensors, made)
        return made


def log_odds(probabilities: Tensor) -> Tensor:
    """Centred log probabilities, ``(n, classes)``."""
    logs = probabilities.clamp(LEAST, 1).log()
    return logs - logs.mean(dim=1, keepdim=True)


def _expert(name: str, tensors: Mapping[str, Tensor], mixture: Mixture) -> Expert:
    if name not in EXPERTS:
        raise RuntimeError(f"there is no expert {name!r}")
    made = EXPERTS[name](len(mixture.centre), mixture.classes)
    own = under(f"{name}.", tensors)
    own.pop("share")
    made.load(own)
    return made


def under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under names that begin with a prefix, by the rest of the names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
