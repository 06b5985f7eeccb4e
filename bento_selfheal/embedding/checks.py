"""What makes a network unfit to be embedded with, found before it is packaged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bento_selfheal.embedding.embedder import LARGEST
from bento_selfheal.embedding.source import Called, Source
from bento_selfheal.embedding.split import Split, answers_of, call, module_named, moved
from bento_selfheal.errors import brief
from bento_selfheal.model import Output

TRIED = 48
"""Inputs that are tried; enough for what depends on its batch to show."""
CLOSE, CLOSE_IN_HALF = 1e-3, 3e-2
"""How far values may differ by the order of sums alone, of their spread."""

DRAWS = (
    "two calls with the same inputs differ, though the network is in eval mode: it draws by chance"
)
OF_ITS_BATCH = (
    "an input alone is embedded otherwise than among others, as by statistics of the batch or by a "
    "recurrent layer without batch_first; requests come alone"
)
NOT_ALONE = "several inputs at once are embedded, but not one alone, and requests come alone"
FORGETS = (
    "built anew from its state dict it embeds otherwise: it keeps something else than parameters "
    "and persistent buffers"
)


def check_network(
    network: nn.Module, again: nn.Module, head: str, called: Sequence[Called]
) -> Tensor:
    """Refuse a network that does not answer the same each time; its hidden vectors.

    Args:
        network: The network, in eval mode.
        again: The same, built anew with the weights of its state dict.
        head: Name of its head.
        called: What it is called with, and what each input alone is, of the first ones.

    Raises:
        ValueError: It depends on chance, on other inputs, or on what its state dict does not hold;
            or an input is embedded with what the log does not hold.
    """
    whole, *alone = called
    hidden = _hidden(network, head, whole)
    _check_finite(hidden)
    _same(hidden, _hidden(network, head, whole), DRAWS)
    try:
        one_by_one = torch.cat([_hidden(network, head, one) for one in alone])
    except Exception as error:  # whatever a user's network raises
        raise ValueError(f"{NOT_ALONE}: {brief(error)}") from error
    _same(hidden[: len(alone)], one_by_one, OF_ITS_BATCH)
    _same(hidden, _hidden(again, head, whole), FORGETS)
    return hidden


def output_of(network: nn.Module, head: str, whole: Called, hidden: Tensor) -> Output:
    """What a head returns, by what the whole network does with it.

    Args:
        network: The network, in eval mode.
        head: Name of its head.
        whole: What the network is called with.
        hidden: What the head is then called with.

    Raises:
        ValueError: What follows the head is more than a sigmoid or a softmax.
    """
    own, calls = module_named(network, head), list[None]()
    with torch.inference_mode():
        said = own(hidden)
        if not isinstance(said, Tensor):
            raise ValueError(f"head: {head!r} returns {type(said).__name__}, not a tensor")
        said = said.float().reshape(len(hidden), -1)
        with own.register_forward_hook(lambda *_: calls.append(None)):
            final = answers_of(call(network, copy.deepcopy(whole)))
        final = final.float().reshape(len(hidden), -1)
    if said.shape != final.shape:
        raise ValueError(
            f"head: {head!r} returns shape {tuple(said.shape)} and the network "
            f"{tuple(final.shape)}; name the module that gives its answers"
        )
    if _close(said, final):
        return "probability" if _gives_probabilities(own, said) else "logit"
    wide = said.shape[1] > 1
    read = [said.softmax(dim=1), said.log_softmax(dim=1)] if wide else [said.sigmoid()]
    if any(_close(each, final) for each in read):
        return "logit"
    if len(calls) > 1:
        raise ValueError(
            f"head: {head!r} is called {len(calls)} times for one answer; name a module that is "
            "called once"
        )
    raise ValueError(
        f"head: what follows {head!r} changes its answers by more than a sigmoid or a softmax; "
        "name a module whose answers are the network's"
    )


def called_with(source: Source, inputs: Sequence[Any], dtype: torch.dtype) -> list[Called]:
    """What a network is tried with: several inputs at once, then the first of them alone."""
    first, cpu = list(inputs[:TRIED]), torch.device("cpu")
    return [moved(source.ready(some), cpu, dtype) for some in (first, *([i] for i in first[:3]))]


def _hidden(network: nn.Module, head: str, called: Called) -> Tensor:
    """Hidden vectors of copies, which the network may change."""
    with torch.inference_mode():
        out: Tensor = Split(network, head)(copy.deepcopy(called))
    return out


def _check_finite(hidden: Tensor) -> None:
    """Refuse what float16 does not hold, in which hidden vectors are logged."""
    fits = hidden.float().abs() <= LARGEST
    if not bool(fits.all()):
        row, place = map(int, torch.argwhere(~fits)[0])
        raise ValueError(
            f"input {row} is embedded with {float(hidden[row, place]):g} in column {place} of its "
            f"hidden vector; finite values up to {LARGEST:g} are needed"
        )


def _gives_probabilities(head: nn.Module, said: Tensor) -> bool:
    """Whether a head returns probabilities: one number from 0 to 1 may also be a logit, and is one
    where the head ends with a layer of weights."""
    if not bool(((said >= 0) & (said <= 1)).all()):
        return False
    if said.shape[1] > 1:
        return _close(said.sum(dim=1), torch.ones(len(said)))
    last = [part for part in head.modules() if not list(part.children())][-1]
    return not list(last.parameters())


def _same(one: Tensor, other: Tensor, why: str) -> None:
    if one.shape != other.shape or not _close(one, other):
        raise ValueError(why)


def _close(one: Tensor, other: Tensor) -> bool:
    half = one.is_floating_point() and torch.finfo(one.dtype).bits < 32
    close = CLOSE_IN_HALF if half else CLOSE
    room = close * max(float(one.float().std(correction=0)), 1e-6)
    return bool(torch.allclose(one.float(), other.float(), rtol=close, atol=room))
