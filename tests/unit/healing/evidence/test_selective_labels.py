"""The gate's promise where only some rows are looked at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.gate import Gate
from bento_selfheal.scoring.review import Review

ALPHA, STREAMS, ROWS, ROUND = 0.05, 300, 4000, 200


def promotes(gains: NDArray[np.float64], review: Review, seed: int, *, weigh: bool = True) -> bool:
    """Whether a line of these gains over all rows is let through on the labels asked for."""
    asked = review.asked(seed.to_bytes(12, "big"))
    scale = np.minimum(review.explored / review.chances, 1.0)
    gate = Gate(ALPHA, 1000)
    for at in range(0, ROWS, ROUND):
        known = np.flatnonzero(asked[at : at + ROUND]) + at
        counted = scale[known] if weigh else None
        if len(known) and gate.update(gains[known], scale=counted).promote:
            return True
    return False


def stream(seed: int, flagged: float, others: float) -> tuple[NDArray[np.float64], Review]:
    """Gains of the challenger where rows are looked at, and on the others."""
    draw = np.random.default_rng(seed)
    certain = draw.random(ROWS) < 0.1
    gains = draw.normal(scale=0.2, size=ROWS) + np.where(certain, flagged, others)
    return gains.clip(-1, 1), Review(0.05, certain)


def test_null_streams() -> None:
    """A challenger that is better where rows are looked at and no better over all is let through in
    at most alpha of the streams; without weights it is in most of them."""
    worlds = [stream(seed, 0.09, -0.01) for seed in range(STREAMS)]
    through = sum(promotes(*world, seed) for seed, world in enumerate(worlds))
    without = sum(promotes(*world, seed, weigh=False) for seed, world in enumerate(worlds[:50]))
    assert through <= ALPHA * STREAMS
    assert without > 25


def test_a_better_one_passes() -> None:
    """One that is better everywhere passes."""
    better = [promotes(*stream(seed, 0.1, 0.1), seed) for seed in range(20)]
    assert sum(better) >= 18


def test_an_advance_waits_for_rows_that_stand_for_many() -> None:
    """A proven line goes on only after as many rows of full scale as ever: rows that are looked at
    anyway say little about the others."""
    gate = Gate(ALPHA, 1000, advance_rows=25)
    gate.proven = True
    few = gate.update(np.full(100, 0.01), scale=np.full(100, 0.01))
    assert not few.promote
    assert gate.update(np.full(25, 0.01), scale=np.ones(25)).promote
