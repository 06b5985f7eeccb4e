"""Makes a network of the user's own ready to be packaged: cut in front of its head, and tried."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bento_selfheal.core.importing import import_function
from bento_selfheal.embedding.adapted import adapted
from bento_selfheal.embedding.checks import called_with, check_network, output_of
from bento_selfheal.embedding.embedder import Embedder
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.split import Split, float_type, module_named
from bento_selfheal.errors import PackageError, brief
from bento_selfheal.model import SelfHealingModel

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Embedded:
    """A network that was tried, and its training inputs as it embeds them."""

    network: nn.Module
    embedding: Embedding
    hidden: NDArray[np.float32]
    """``(n, width)``"""
    model: SelfHealingModel


def embed_with(
    network: nn.Module,
    head: str,
    source: Source,
    values: Sequence[Any],
    builder: str,
    builder_args: Mapping[str, Any],
) -> Embedded:
    """Try a network, and embed training inputs with it.

    Args:
        network: The network, trained; it stays as it is.
        head: Name of the module that answers.
        source: What its inputs are.
        values: The training inputs.
        builder: ``module:function`` that builds it; its class where empty.
        builder_args: Keyword arguments of the function.

    Raises:
        PackageError: It cannot be healed, or not be built anew; the message says why.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise PackageError("model: a TorchScript module cannot be cut; give the network it is of")
    own = copy.deepcopy(_unwrapped(network))
    _refuse_lazy(own, "model: it has", "call it once with inputs")
    own = own.cpu().requires_grad_(False).eval()
    inputs = read_all(source, values)
    name = builder or _class_of(own)
    again = build_network(name, builder_args)
    dtype, state = float_type(own), own.state_dict()
    try:
        typed_as(again, {key: value.dtype for key, value in state.items()}, dtype)
        again.load_state_dict(state)
    except RuntimeError as error:
        raise PackageError(f"builder: {name!r} does not build the model: {error}") from error
    try:
        called = called_with(source, inputs, dtype)
        tried = check_network(own, again, head, called)
        output, width = output_of(own, head, called[0], tried), tried.shape[1]
    except ValueError as error:
        raise PackageError(str(error)) from error
    except Exception as error:  # whatever a user's network raises
        raise PackageError(f"model: it cannot be called with the inputs: {brief(error)}") from error
    embedding = Embedding(
        source=source, network=name, network_args=dict(builder_args), head=head, width=width,
        dtype=str(dtype).removeprefix("torch."), output=output,
    )  # fmt: skip
    hidden = Embedder(source, Split(own, head), width, CPU).embed(inputs)
    model = adapted(copy.deepcopy(module_named(own, head)), width, output)
    return Embedded(own, embedding, hidden, model)


def read_all(source: Source, values: Sequence[Any]) -> list[Any]:
    """Training inputs as the source reads them.

    Raises:
        PackageError: One is none; the message names it.
    """
    out = []
    for i, value in enumerate(values):
        try:
            out.append(source.read(value))
        except ValueError as error:
            raise PackageError(f"rows: row {i}: {error}") from error
    return out


def build_network(name: str, args: Mapping[str, Any]) -> nn.Module:
    """A network from its builder, in eval mode.

    Raises:
        PackageError: It cannot be built; the message says why.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            network = import_function(name)(**args)
    except ValueError as error:
        raise PackageError(f"builder: {error}") from error
    except TypeError as error:
        raise PackageError(f"builder_args: {name!r} rejects them: {error}") from error
    if not isinstance(network, nn.Module):
        raise PackageError(
            f"builder: {name!r} returned a {type(network).__name__}, no torch module"
        )
    _refuse_lazy(network, f"builder: {name!r} returns a network with", "have it call it once")
    return network.requires_grad_(False).eval()


def typed_as(network: nn.Module, types: Mapping[str, torch.dtype], usual: torch.dtype) -> nn.Module:
    """A network in whose state dict floats are of the types given by name; others as usual."""
    network.to(usual)
    for name, value in network.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and value.is_floating_point():
            value.data = value.data.to(types.get(name, usual))
    return network


def _unwrapped(network: nn.Module) -> nn.Module:
    """A network as it was before torch.compile, and before it was spread over devices."""
    own: nn.Module = getattr(network, "_orig_mod", network)
    if not isinstance(own, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return own
    return _unwrapped(cast(nn.Module, own.module))


def _refuse_lazy(network: nn.Module, what: str, advice: str) -> None:
    """Refuse modules whose weights have no shape until they are called."""
    lazy = [
        name
        for name, each in network.named_modules()
        if any(map(is_lazy, (*each.parameters(recurse=False), *each.buffers(recurse=False))))
    ]
    if lazy:
        raise PackageError(f"{what} lazy modules {lazy} that were never called; {advice}")


def _class_of(network: nn.Module) -> str:
    kind = type(network)
    if kind.__module__ == "__main__" or "." in kind.__qualname__:
        raise PackageError(
            f"builder: {kind.__qualname__} of {kind.__module__} cannot be imported by a server; "
            "put it into a module of its own, or name a function that builds it"
        )
    return f"{kind.__module__}:{kind.__qualname__}"
