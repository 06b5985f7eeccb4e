"""A network cut in front of one of its modules: what is before it embeds, it answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from bento_selfheal.embedding.source import Called


class _Reached(BaseException):
    """The head was called: everything before it is done."""

    def __init__(self, hidden: Any) -> None:
        self.hidden = hidden


class Split(nn.Module):
    """The part of a network before its head, unchanged: it runs until the head is called.

    Args:
        network: The network, in eval mode.
        head: Name of the head among its modules.

    Raises:
        ValueError: It has no such module.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network = network
        self._name, self._head = head, module_named(network, head)
        self.dtype = float_type(network)
        self._lock = threading.Lock()  # the hook belongs to one call at a time

    def forward(self, called: Called) -> Tensor:
        """Hidden vectors, ``(n, width)``.

        Raises:
            ValueError: The head is not called, or not with one vector for each input.
        """
        with self._lock, self._head.register_forward_pre_hook(_stop, with_kwargs=True):
            try:
                call(self.network, called)
            except _Reached as reached:
                return _vectors(reached.hidden)
        raise ValueError(
            f"head: the network answers without calling {self._name!r}; name the module that gives "
            "its answers"
        )


def module_named(network: nn.Module, name: str) -> nn.Module:
    """A module of a network.

    Raises:
        ValueError: There is none of this name; the message lists those at the end.
    """
    known: dict[str, nn.Module] = dict(network.named_modules())
    if not name or name not in known:
        last = [n for n in known if n][-8:]
        raise ValueError(f"head: the network has no module {name!r}; its last ones are {last}")
    return known[name]


def call(network: nn.Module, called: Called) -> Any:
    """What a network says when it is called as its inputs want it."""
    if isinstance(called, Mapping):
        return network(**called)
    return network(*called) if isinstance(called, tuple) else network(called)


def answers_of(output: Any) -> Tensor:
    """The answers in what a network returned: itself, its logits, or the first of several.

    Raises:
        ValueError: There is no tensor in it.
    """
    if isinstance(output, Mapping):
        output = output.get("logits", next(iter(output.values()), None))
    elif hasattr(output, "logits"):
        output = output.logits
    elif isinstance(output, Sequence) and not isinstance(output, str) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ValueError(f"the network returns {type(output).__name__}, which has no answers")
    return output


def moved(called: Called, device: torch.device, dtype: torch.dtype) -> Called:
    """What a network is called with, on its device; fractions are of its type."""
    if isinstance(called, Tensor):
        return called.to(device, dtype if called.is_floating_point() else called.dtype)
    if isinstance(called, Mapping):
        return {name: moved(value, device, dtype) for name, value in called.items()}
    if isinstance(called, tuple):
        return tuple(moved(value, device, dtype) for value in called)
    return called


def float_type(network: nn.Module) -> torch.dtype:
    """The type of a network's parameters, by the first of them."""
    kinds = [p.dtype for p in network.parameters() if p.is_floating_point()]
    return kinds[0] if kinds else torch.float32


def _stop(module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> NoReturn:
    raise _Reached(next(iter((*args, *named.values())), None))


def _vectors(hidden: Any) -> Tensor:
    if not isinstance(hidden, Tensor):
        raise ValueError(f"head: it is called with {type(hidden).__name__}, not with a tensor")
    if hidden.ndim != 2:
        raise ValueError(
            f"head: it is called with shape {tuple(hidden.shape)}; one vector for each input is "
            "needed, (n, width), so name a module behind the pooling"
        )
    return hidden
