"""The mixture: what the experts say together, as one adapter of the frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.experts.expert import Expert, softmax
from bento_selfheal.experts.kinds.context import context_of
from bento_selfheal.experts.side_by_side import Linear, SideBySide
from bento_selfheal.experts.table import EXPERTS, INPUT_EXPERTS

FROZEN, LAYER = "frozen", "layer"
"""The frozen model and the model with its `ReflexiveLayer`, which are in every mixture."""
REACH = 8.0
"""Spreads beyond which a scaled hidden value no longer grows, where clean rows reach no farther."""
LEAST = 1e-6
SEES = "sees"
"""Number of the last columns of the hidden vector that an expert sees, in a snapshot."""


@dataclass(frozen=True)
class Voice:
    """How much somebody says in a mixture, and how sure of it."""

    share: float
    sharpness: float
    """What log probabilities are multiplied by"""
    expert: Expert | None = None
    """None for the frozen model and the layer."""


class Mixture:
    """A weighted mean of probabilities: of the frozen model, of its layer and of experts.

    Whoever is linear, in the hidden vector or in waves over it, answers in one product of matrices:
    a service is asked for few rows at a time, where every call costs as much as another. It answers
    on the CPU, wherever the model lies.

    Args:
        centre: Means of the hidden vector on clean rows, ``(width,)``.
        spread: Its standard deviations, ``(width,)``.
        reach: Spreads beyond which each value no longer grows, ``(width,)``.
        classes: Number of classes.
        voices: Who answers, by name; the frozen model alone when not given.
    """

    def __init__(
        self,
        centre: Tensor,
        spread: Tensor,
        reach: Tensor,
        classes: int,
        voices: Mapping[str, Voice] | None = None,
    ) -> None:
        self.classes = classes
        self.voices = dict(voices or {FROZEN: Voice(1.0, 1.0)})
        self.centre, self.spread, self.reach = centre, spread, reach
        self._fold()

    def _fold(self) -> None:
        """Put everybody who is linear side by side."""
        linear, said = list[Linear](), list[Voice]()
        self._others: dict[str, Expert] = {}
        for name, voice in sorted(self.voices.items()):  # in the order of a snapshot, to the bit
            own = None if voice.expert is None else voice.expert.linear()
            if name == FROZEN:
                own = Linear(np.zeros((1, self.classes), dtype=np.float32), 1.0)
            if own is not None:
                linear.append(own)
                said.append(voice)
            elif voice.expert is not None:
                self._others[name] = voice.expert
        heard = context_of(voice.expert for voice in said if voice.expert is not None)
        self._listens = heard is not None
        told = None if heard is None else heard.numpy()
        self._linear = SideBySide(linear, len(self.centre), self.classes, told)
        each = [(voice.share, voice.sharpness) for voice in said]
        pairs = np.asarray(each, dtype=np.float32).reshape(-1, 2, 1)
        self._shares, self._sharpness = pairs[:, 0], pairs[:, 1]

    @property
    def asks_layer(self) -> bool:
        """Whether the model's layer has anything to say."""
        return LAYER in self.voices

    @property
    def scales(self) -> dict[str, Tensor]:
        """What hidden vectors are scaled by."""
        return {"centre": self.centre, "spread": self.spread, "reach": self.reach}

    def scale(self, hidden: Tensor) -> Tensor:
        """Hidden vectors as experts want them, ``(n, width)``."""
        return ((hidden - self.centre) / self.spread).clamp(-self.reach, self.reach)

    def __call__(
        self,
        hidden: Tensor,
        frozen: Tensor,
        layer: Tensor | None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Probabilities, ``(n, classes)``.

        Args:
            hidden: The frozen backbone's output, ``(n, width)``.
            frozen: The frozen model's probabilities, ``(n, classes)``.
            layer: Those of the model with its layer, ``(n, classes)``; None where it says nothing.
            context: What the rows around each were like, ``(n, inputs)``; what was last heard where
                it is not given.
        """
        scaled, odds = self.scale(_on_cpu(hidden)), log_odds(_on_cpu(frozen))
        around = None if context is None else context.numpy()
        said = self._sharpness * self._linear(scaled.numpy(), odds.numpy(), around)
        out = (self._shares * softmax(said)).sum(axis=1)
        if layer is not None and self.asks_layer:
            out = out + _voiced(self.voices[LAYER], log_odds(_on_cpu(layer)))
        for name, expert in self._others.items():
            out = out + _voiced(self.voices[name], expert.ask(scaled, odds))
        return torch.from_numpy(out).to(frozen.device, frozen.dtype)

    @property
    def listens(self) -> bool:
        """Whether anybody wants to know what the newest rows are like."""
        return self._listens

    def in_context(self, context: Tensor) -> Mixture:
        """The same voices, having heard that the newest rows are like this, ``(inputs,)``."""
        made = copy(self)
        made.voices = {
            name: replace(voice, expert=voice.expert and voice.expert.in_context(context))
            for name, voice in self.voices.items()
        }
        made._linear = self._linear.in_context(context.numpy())
        return made

    def tensors(self) -> dict[str, Tensor]:
        """All that it answers from, for a snapshot; no copy: nothing changes it in place."""
        classes = torch.tensor(self.classes)
        out = {**self.scales, "classes": classes}
        for name, voice in self.voices.items():
            pair = [voice.share, voice.sharpness]
            out[f"{name}.share"] = torch.tensor(pair, dtype=torch.float64)
            if voice.expert is not None:
                own = voice.expert.buffers
                out.update({f"{name}.{key}": value for key, value in own.items()})
                if name in INPUT_EXPERTS:
                    out[f"{name}.{SEES}"] = torch.tensor(voice.expert.width)
        return {k: v.contiguous() for k, v in out.items()}

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
        scales = {name: tensors[name] for name in ("centre", "spread")}
        # Earlier releases let no value reach farther.
        scales["reach"] = tensors.get("reach", torch.full((width,), REACH))
        for name, value in scales.items():
            if value.shape != (width,):
                raise RuntimeError(
                    f"{name}: expected the shape {(width,)}, got {tuple(value.shape)}"
                )
        classes = tensors["classes"]
        voices = {}
        for name in (key.removesuffix(".share") for key in tensors if key.endswith(".share")):
            share, sharpness = tensors[f"{name}.share"].tolist()
            alone = name in (FROZEN, LAYER)
            expert = None if alone else _expert(name, tensors, width, int(classes))
            voices[name] = Voice(share, sharpness, expert)
        return cls(**scales, classes=int(classes), voices=voices)


def _voiced(voice: Voice, said: Tensor) -> NDArray[np.float32]:
    return np.float32(voice.share) * softmax(np.float32(voice.sharpness) * said.numpy())


def _on_cpu(values: Tensor) -> Tensor:
    return values.to("cpu", torch.float32)


def log_odds(probabilities: Tensor) -> Tensor:
    """Centred log probabilities, ``(n, classes)``."""
    logs = np.log(np.clip(probabilities.numpy(), LEAST, 1))
    logs -= np.add.reduce(logs, axis=1, keepdims=True) / logs.shape[1]
    return torch.from_numpy(logs)


def _expert(name: str, tensors: Mapping[str, Tensor], width: int, classes: int) -> Expert:
    own = under(f"{name}.", tensors)
    own.pop("share")
    if name in EXPERTS:
        made = EXPERTS[name](width, classes)
    elif name in INPUT_EXPERTS and 0 < (sees := int(own.pop(SEES, 0))) < width:
        made = INPUT_EXPERTS[name](sees, classes)
    else:
        raise RuntimeError(f"there is no expert {name!r} over hidden vectors of {width}")
    made.load(own)
    return made


def under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under names that begin with a prefix, by the rest of the names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
