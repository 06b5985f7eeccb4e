"""Who races: every expert by its name, as snapshots and events call it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.kinds.context import ContextExpert
from bento_selfheal.experts.kinds.discriminant import DiscriminantExpert
from bento_selfheal.experts.kinds.logistic import LogisticExpert
from bento_selfheal.experts.kinds.neighbours import NeighboursExpert
from bento_selfheal.experts.kinds.ridge import RidgeExpert
from bento_selfheal.experts.kinds.softmax import SoftmaxExpert

Make = Callable[[int, int], Expert]

EXPERTS: dict[str, Make] = {
    "softmax": partial(SoftmaxExpert, rate=0.05),
    "softmax-fast": partial(SoftmaxExpert, rate=0.2),
    "correction": partial(SoftmaxExpert, rate=0.1, corrects=True),
    "logistic": partial(LogisticExpert, half_life=500),
    "ridge": partial(RidgeExpert, half_life=1000, features=0),
    "random-features": partial(RidgeExpert, half_life=2000, seed=1),
    "random-features-fast": partial(RidgeExpert, half_life=300, seed=1),
    "discriminant": partial(DiscriminantExpert, half_life=500),
    "neighbours": partial(NeighboursExpert, window=1000),
}
"""To add one: write its class in a file of its own, and a line here."""

INPUT_EXPERTS: dict[str, Make] = {
    "logistic-inputs-fast": partial(LogisticExpert, half_life=150),
    "logistic-inputs": partial(LogisticExpert, half_life=400),
    "logistic-inputs-slow": partial(LogisticExpert, half_life=1200),
    "softmax-inputs": partial(SoftmaxExpert, rate=0.1, most=0.01),
    "discriminant-inputs": partial(DiscriminantExpert, half_life=500),
    "random-features-inputs": partial(RidgeExpert, half_life=1000, seed=1),
    "ridge-apart": partial(ContextExpert, half_life=1000, apart=True),
    "ridge-context": partial(ContextExpert, half_life=1000),
    "random-features-context": partial(ContextExpert, half_life=2000, seed=1, features=128),
}
"""Those that see the scaled inputs alone, where the hidden vector has them: where little is known,
the fewer weights there are to learn, the better."""
BETTER_ON_INPUTS = frozenset({"random-features"})
"""Experts over the hidden vector that do not race where there are those over the inputs."""


def make_experts(width: int, classes: int, inputs: int) -> dict[str, Expert]:
    """Everybody who can race over hidden vectors.

    Args:
        width: Width of the hidden vector.
        classes: Number of classes.
        inputs: How many of its last columns are the scaled inputs; 0 where it has none.
    """
    if not 0 < inputs < width:
        return {name: make(width, classes) for name, make in EXPERTS.items()}
    over_all = {n: make(width, classes) for n, make in EXPERTS.items() if n not in BETTER_ON_INPUTS}
    return over_all | {name: make(inputs, classes) for name, make in INPUT_EXPERTS.items()}
