"""What a stream that changes comes to: a network frozen, served with an adapter, and one that fits
all its weights to the same labels as they come, five steps of Adam for each 25 labels, on these
and 39 earlier ones. Labels come 100 inputs late.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from bento_selfheal.config.settings import Settings
from bento_selfheal.embedding.source import Called
from bento_selfheal.embedding.split import call
from bento_selfheal.packaging.opening import open_embedder
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.comparison import REQUEST_ROWS
from bento_selfheal.simulation.streams import Stream

LATE, SEED = 100, 42
STEPS, EARLIER = 5, 39
Right = NDArray[np.bool_]
Ready = Callable[[list[Any]], Called]
"""Makes of inputs what a network is called with."""


def frozen_and_served(
    package: Package, inputs: Sequence[Any], labels: NDArray[np.int64]
) -> tuple[Right, Right]:
    """Which answers of the frozen network and of what was served are right, ``(n,)`` each."""
    embedder = open_embedder(package)
    assert embedder is not None
    rows = embedder.embed(list(inputs))  # type: ignore[arg-type]
    run = Backtest(package, Settings(seed=SEED))
    deque(run.run(Stream(rows, labels, LATE, REQUEST_ROWS)), maxlen=0)
    return run.correct("frozen"), run.correct("champion")


def finetuned(
    network: nn.Module,
    ready: Ready,
    inputs: Sequence[Any],
    labels: NDArray[np.int64],
    rate: float = 1e-3,
) -> Right:
    """Which answers of a network that fits all its weights to the labels are right, ``(n,)``."""
    own, draw, right = copy.deepcopy(network), np.random.default_rng(SEED), []
    optimizer = torch.optim.Adam(own.parameters(), lr=rate)
    for at in range(0, len(inputs), REQUEST_ROWS):
        with torch.no_grad():
            said = call(own, ready(list(inputs[at : at + REQUEST_ROWS]))).argmax(1).numpy()
        right.append(said == labels[at : at + REQUEST_ROWS])
        known = at + REQUEST_ROWS - LATE
        for _ in range(STEPS if known >= REQUEST_ROWS else 0):
            new = np.arange(known - REQUEST_ROWS, known)
            some = np.concatenate([new, draw.integers(0, known, EARLIER)])
            step(own, optimizer, ready([inputs[i] for i in some]), labels[some])
    return np.concatenate(right)


def step(
    network: nn.Module, optimizer: torch.optim.Optimizer, called: Called, labels: NDArray[np.int64]
) -> None:
    """One step of an optimizer."""
    optimizer.zero_grad()
    loss = cross_entropy(call(network, called), torch.from_numpy(labels))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def accuracies(middle: int, frozen: Right, served: Right, all_weights: Right) -> dict[str, Any]:
    """Accuracy after the change, which is in the middle, and before it."""
    after = {"frozen": frozen, "served": served, "finetuned": all_weights}
    return {
        **{name: float(right[middle:].mean()) for name, right in after.items()},
        "before": {name: float(right[:middle].mean()) for name, right in after.items()},
    }
