"""Who races: every expert by its name, as snapshots and events call it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bento_selfheal.experts.discriminant import DiscriminantExpert
from bento_selfheal.experts.expert import Expert
from bento_selfheal.experts.neighbours import NeighboursExpert
from bento_selfheal.experts.ridge import RidgeExpert
from bento_selfheal.experts.softmax import SoftmaxExpert

Make = Callable[[int, int], Expert]

EXPERTS: dict[str, Make] = {
    "softmax": partial(SoftmaxExpert, rate=0.1),
    "softmax-fast": partial(SoftmaxExpert, rate=0.5),
    "correction": partial(SoftmaxExpert, rate=0.2, corrects=True),
    "ridge": partial(RidgeExpert, half_life=1000, curved=False),
    "random-features": partial(RidgeExpert, half_life=2000, seed=1),
    "random-features-fast": partial(RidgeExpert, half_life=300, seed=1),
    "discriminant": partial(DiscriminantExpert, half_life=500),
    "neighbours": partial(NeighboursExpert, window=1000),
}
"""To add one: write its class in a file of its own, and a line here."""
