"""The model: a frozen backbone, a small residual adapter that heals, and a frozen head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from bento_selfheal.core.class_probabilities import columns, normalised
from bento_selfheal.core.segments.left_out import LEFT_OUT, LeftOut, leave_out
from bento_selfheal.experts.mixture import Mixture
from bento_selfheal.standardize import Standardize

MIXTURE = "mixture."
"""Begins the names of a mixture's tensors among those of an adapter."""
SQUARE, RANK = 256, 64
"""Width up to which a `ReflexiveLayer` is square, and the inner width of a wider one."""
Output = Literal["probability", "logit"]


class ReflexiveLayer(nn.Module):
    """Residual adapter ``x + scale * adapter(x)`` (article.md, section 1).

    It corrects the backbone's representation and cannot overwrite it. Up to a width of 256 both its
    linear maps are square. Above, they meet in 64 units, so that weights and time grow with the
    width and not with its square, and the layer begins as the identity (LoRA, Hu et al. 2021).
    A state that is loaded brings its own inner width.

    Args:
        dim: Width of the hidden representation; input and output are ``(n, dim)``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.adapter = _bottleneck(dim, dim if dim <= SQUARE else RANK)
        self.scale = nn.Parameter(torch.tensor(0.1))
        if dim > SQUARE:
            for value in self.adapter[2].parameters():
                nn.init.zeros_(value)

    def forward(self, x: Tensor) -> Tensor:
        """The corrected representation, ``(n, dim)``."""
        first, _, last = cast(tuple[nn.Linear, nn.Tanh, nn.Linear], tuple(self.adapter))
        return _corrected(x, (first.weight, first.bias, last.weight, last.bias, self.scale))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take the inner width of a state: earlier releases made wide layers square, too."""
        first = state_dict.get(f"{prefix}adapter.0.weight")
        if isinstance(first, Tensor) and first.ndim == 2 and first.shape[1] == self.dim:
            own = self.adapter.state_dict()["0.weight"]
            if 0 < len(first) != len(own):
                self.adapter = _bottleneck(self.dim, len(first)).to(own.device, own.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


PARTS = ("adapter.0.weight", "adapter.0.bias", "adapter.2.weight", "adapter.2.bias", "scale")
"""What a `ReflexiveLayer` consists of, by its names in a state."""


def _corrected(x: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """What a layer of these parts makes of a representation ``(n, dim)``."""
    # A call of a module takes as long as what it computes for few rows.
    first, bias, last, last_bias, scale = parts
    inner = torch.tanh(functional.linear(x, first, bias))
    return x + scale * functional.linear(inner, last, last_bias)


def _bottleneck(dim: int, rank: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, rank), nn.Tanh(), nn.Linear(rank, dim))


class SelfHealingModel(nn.Module):
    """Any torch backbone and head with a `ReflexiveLayer` between them.

    Args:
        backbone: Maps ``(n, features)`` to ``(n, hidden)``.
        reflexive: The adapter over the hidden representation.
        head: Maps ``(n, hidden)`` to ``(n, 1)`` or ``(n,)`` of two classes, or to
            ``(n, classes)``.
        output: What the head returns: probabilities (of the second class, or of each), or logits.
            Probabilities of more than two classes are divided by their sum where it is not 1.
    """

    def __init__(
        self,
        backbone: nn.Module,
        reflexive: ReflexiveLayer,
        head: nn.Module,
        output: Output = "probability",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.reflexive = reflexive
        self.head = head
        self.output = output
        self.mixture: Mixture | None = None
        self.left_out: LeftOut | None = None
        self._clean: list[ReflexiveLayer] = []

    @property
    def device(self) -> torch.device:
        """The device of its weights; rows must be on it too."""
        return self.reflexive.scale.device

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities for rows ``(n, features)``: `decide` on the backbone's representation, and
        what the packaged model says of those that are left to it."""
        if self.left_out is None:
            return self.decide(self.backbone(x))
        away = self.left_out(x.detach().cpu().numpy())  # a backbone may change rows in place
        frozen = self.by_frozen(hidden := self.backbone(x))
        return leave_out(self.decide(hidden, frozen=frozen), frozen, away)

    def decide(
        self, hidden: Tensor, context: Tensor | None = None, frozen: Tensor | None = None
    ) -> Tensor:
        """Adapter and head over a hidden representation ``(n, hidden)``.

        Probability of the second of two classes, ``(n,)``, or of each of many,
        ``(n, classes)``.

        Args:
            hidden: The backbone's output.
            context: What the rows around each were like, as a mixture wants to know it
                (`Lesson.context`); where it is not given, what the mixture last heard.
            frozen: What `by_frozen` says, where it is known already.
        """
        if self.mixture is None:
            return self.by_layer(hidden)
        layer = columns(self.by_layer(hidden)) if self.mixture.asks_layer else None
        frozen = self.by_frozen(hidden) if frozen is None else frozen
        mixed: Tensor = self.mixture(hidden, columns(frozen), layer, context)
        return mixed[:, 1].contiguous() if frozen.ndim == 1 else mixed

    def by_layer(self, hidden: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        """What the `ReflexiveLayer`, or one with other weights, and the head say alone, in the
        shape of `decide`."""
        own = None if weights is None else [weights[part] for part in PARTS]
        moved = self.reflexive(hidden) if own is None else _corrected(hidden, own)
        return self._read(self.head(moved), hidden)

    def by_frozen(self, hidden: Tensor) -> Tensor:
        """What the model said as packaged, in the shape of `decide`."""
        [clean] = self._clean or [self.reflexive]
        return self._read(self.head(clean(hidden)), hidden)

    def _read(self, raw: Tensor, hidden: Tensor) -> Tensor:
        if raw.ndim == 2 and raw.shape[1] > 1:
            each = raw if self.output == "probability" else torch.softmax(raw, dim=1)
            return each[:, 1].contiguous() if each.shape[1] == 2 else normalised(each)
        raw = raw.reshape(len(hidden))
        return raw if self.output == "probability" else torch.sigmoid(raw)

    def freeze_for_healing(self) -> None:
        """Compute gradients for the ReflexiveLayer only."""
        self.requires_grad_(False)
        self.reflexive.requires_grad_(True)

    def unfreeze_all(self) -> None:
        """Compute gradients for every part, for a full retrain."""
        self.requires_grad_(True)

    def adapter_state(self) -> dict[str, Tensor]:
        """A detached copy of the adapter's weights on the CPU: all that a heal may change."""
        mixed = {} if self.mixture is None else self.mixture.tensors()
        own = {f"{MIXTURE}{name}": value for name, value in mixed.items()}
        left = {} if self.left_out is None else {LEFT_OUT: self.left_out.state}
        return {**self.layer_state(), **own, **left}

    def layer_state(self) -> dict[str, Tensor]:
        """A detached copy of the `ReflexiveLayer`'s weights on the CPU."""
        return {
            name: value.detach().to("cpu", copy=True)
            for name, value in self.reflexive.state_dict().items()
        }

    def twin(self) -> SelfHealingModel:
        """A second model that shares everything with this one, and may get another mixture."""
        other = self._with(self.reflexive, self.mixture)
        other.left_out = self.left_out
        return other

    def with_adapter(self, state: Mapping[str, Tensor]) -> SelfHealingModel:
        """A second model with the same backbone and head and a new adapter, on the same device. It
        leaves nothing out: `Package.with_adapter` reads what a snapshot leaves out.

        Raises:
            RuntimeError: The state does not match the adapter.
        """
        layer = {k: v for k, v in state.items() if not k.startswith((MIXTURE, LEFT_OUT))}
        mixed = {k.removeprefix(MIXTURE): v for k, v in state.items() if k.startswith(MIXTURE)}
        reflexive = ReflexiveLayer(self.reflexive.dim)
        reflexive.load_state_dict(layer)
        mixture = Mixture.of(mixed, self.reflexive.dim) if mixed else None
        return self._with(reflexive.to(self.device), mixture)

    def _with(self, reflexive: ReflexiveLayer, mixture: Mixture | None) -> SelfHealingModel:
        """A second model with the same backbone and head."""
        other = SelfHealingModel(self.backbone, reflexive, self.head, self.output)
        other._clean, other.mixture = self._clean or [self.reflexive], mixture
        return other.train(self.training)


class SelfHealingMLP(SelfHealingModel):
    """The article's classifier: 64-64 ReLU backbone, adapter, sigmoid head.

    The parts are built in the order backbone, reflexive, head, which decides the random
    draws that article.md, section 6, depends on. 13,250 parameters at the defaults.

    Args:
        input_dim: Number of features.
        hidden_dim: Width of both hidden layers and of the adapter.
    """

    def __init__(self, input_dim: int = 10, hidden_dim: int = 64) -> None:
        backbone = mlp_backbone(input_dim, hidden_dim)
        reflexive = ReflexiveLayer(hidden_dim)
        head = nn.Sequential(nn.Linear(hidden_dim, 1), nn.Sigmoid())
        super().__init__(backbone, reflexive, head)


class InputsBeside(nn.Module):
    """A backbone whose last outputs are its scaled inputs.

    A frozen backbone keeps only what told the classes apart when it was trained, so an adapter
    behind it cannot use a feature that begins to matter later. With the inputs in the hidden
    representation it can (the wide part of Cheng et al. 2016).

    Args:
        scale: Maps ``(n, features)`` to ``(n, inputs)``.
    """

    def __init__(self, scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale

    def scaled(self, x: Tensor) -> Tensor:
        """Scaled inputs of rows, ``(n, inputs)``."""
        return cast(Tensor, self.scale(x))


class WideAndDeep(InputsBeside):
    """A backbone that returns its scaled inputs beside the output of a deep part.

    Args:
        scale: Maps ``(n, features)`` to ``(n, features)``.
        deep: Maps ``(n, features)`` to ``(n, hidden)``.
    """

    def __init__(self, scale: nn.Module, deep: nn.Module) -> None:
        super().__init__(scale)
        self.deep = deep

    def forward(self, x: Tensor) -> Tensor:
        """Hidden representation ``(n, hidden + features)``."""
        scaled = self.scaled(x)
        return torch.cat([self.deep(scaled), scaled], dim=1)


def wide_mlp(input_dim: int, hidden_dim: int = 64, classes: int = 2) -> SelfHealingModel:
    """The default of `package_model`: the article's backbone behind a `Standardize`, made
    `WideAndDeep`.

    Training fills in the scale from the data; opening a package loads it with the weights.
    """
    scale = Standardize(torch.zeros(input_dim), torch.ones(input_dim))
    backbone = WideAndDeep(scale, mlp_backbone(input_dim, hidden_dim))
    width = hidden_dim + input_dim
    reflexive = ReflexiveLayer(width)
    if classes > 2:
        return SelfHealingModel(backbone, reflexive, nn.Linear(width, classes), "logit")
    head = nn.Sequential(nn.Linear(width, 1), nn.Sigmoid())
    return SelfHealingModel(backbone, reflexive, head)


class BaselineMLP(nn.Module):
    """The article's baseline: the same MLP without the ReflexiveLayer."""

    def __init__(self, input_dim: int = 10, hidden_dim: int = 64) -> None:
        super().__init__()
        self.backbone = mlp_backbone(input_dim, hidden_dim)
        self.head = nn.Sequential(nn.Linear(hidden_dim, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Probability of the second class, ``(n,)``, for rows ``(n, features)``."""
        out: Tensor = self.head(self.backbone(x))
        return out.squeeze(-1)


def mlp_backbone(input_dim: int, hidden_dim: int) -> nn.Sequential:
    """Linear, ReLU, Linear, ReLU (article.md, section 1)."""
    return nn.Sequential(
        nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU()
    )
