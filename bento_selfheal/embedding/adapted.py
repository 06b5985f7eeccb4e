"""What heals of an embedding network: an adapter over its hidden vectors, and its head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bento_selfheal.core.importing import import_function
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.split import module_named
from bento_selfheal.model import Output, ReflexiveLayer, SelfHealingModel


class HiddenColumns(nn.Module):
    """The hidden vector, which is the first columns of a row; named facts follow it.

    Args:
        width: Width of the hidden vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """Hidden vectors ``(n, width)`` of rows ``(n, width + facts)``."""
        return x[:, : self.width]


class Head(nn.Module):
    """A user's head, whose answers may have more axes than they need.

    Args:
        own: The head.
    """

    def __init__(self, own: nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, hidden: Tensor) -> Tensor:
        """Answers ``(n, 1)`` or ``(n, classes)``."""
        out: Tensor = self.own(hidden)
        return out.reshape(len(hidden), -1)


def adapted_head(embedding: Mapping[str, Any]) -> SelfHealingModel:
    """The part of a package that a healing runner needs: no weight of what is before the head.

    Args:
        embedding: JSON values of an `Embedding`.
    """
    noted = Embedding.model_validate(embedding)
    own = _without_memory(noted.network, noted.head, noted.network_args)
    if own is None:
        own = module_named(import_function(noted.network)(**noted.network_args), noted.head)
    return adapted(own, noted.width, noted.output)


def _without_memory(network: str, head: str, args: Mapping[str, Any]) -> nn.Module | None:
    """The head of a network of which nothing is allocated or drawn; None where that cannot be."""
    try:
        with torch.device("meta"):
            own = module_named(import_function(network)(**args), head)
        kept = {name for name, _ in [*own.named_parameters(), *own.named_buffers()]}
        return own.to_empty(device="cpu") if kept == set(own.state_dict()) else None
    except (RuntimeError, NotImplementedError, TypeError, ValueError):  # it looks at its weights
        return None


def adapted(head: nn.Module, width: int, output: Output) -> SelfHealingModel:
    """An adapter in front of a head, over rows that begin with the hidden vector."""
    return SelfHealingModel(HiddenColumns(width), silent_layer(width), Head(head.float()), output)


def silent_layer(width: int) -> ReflexiveLayer:
    """A layer that changes nothing yet, and whose first weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = ReflexiveLayer(width)
    for value in layer.adapter[2].parameters():
        nn.init.zeros_(value)
    return layer
