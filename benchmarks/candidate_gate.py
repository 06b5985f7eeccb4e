"""Is a candidate promoted where it is better, and only there?

    python benchmarks/candidate_gate.py

The service's own trial (`CandidateTrial`) judges candidates on labels, fifty at a time, along the
default ramp. A better candidate decides 5 % of the rows right that the champion gets wrong, and 3 %
the other way round: 2 points. A worse one has these turned round; an equal one has 4 % of each.
Both are as sure of a row as each other: probabilities lie between 0.55 and 0.95 for what they say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.candidates.candidate import Candidate
from bento_selfheal.healing.candidates.trial import CandidateTrial, Move

RUNS, BATCH, ACCURACY = 200, 50, 0.8
FIRST_SEED = 70_000
"""Of the runs that are measured; development had seeds below 1,000."""
KINDS = {"better": (0.05, 0.03), "worse": (0.03, 0.05), "equal": (0.04, 0.04)}
"""Shares of all rows: decided right that were wrong, and wrong that were right."""


def one_run(seed: int, gain: float, loss: float) -> tuple[Move, int]:
    """What becomes of one candidate, and after how many labels."""
    generator, costs, alpha = np.random.default_rng(seed), Thresholds(), Settings().gate_alpha
    trial, candidate = CandidateTrial(), Candidate("bench:1")
    while True:
        labels = generator.integers(0, 2, BATCH)
        right = generator.random(BATCH) < ACCURACY
        flips = generator.random(BATCH) < np.where(right, loss / ACCURACY, gain / (1 - ACCURACY))
        sure = generator.uniform(0.55, 0.95, BATCH)
        champion, challenger = (
            np.where(ok == (labels == 1), sure, 1 - sure).astype(np.float32)
            for ok in (right, right ^ flips)
        )
        trial.update(champion, challenger, labels.astype(np.float32), costs)
        move, _ = trial.judge(candidate, alpha, {})
        if move is Move.STEP:
            candidate = replace(candidate, step=candidate.step + 1)
        elif move is not Move.STAY:
            return move, trial.better.count


def candidate_gate(runs: int = RUNS, first_seed: int = FIRST_SEED) -> dict[str, Any]:
    """Shares of the runs in which a candidate is promoted, and the labels that it takes."""
    found: dict[str, Any] = {"runs": runs, "alpha": Settings().gate_alpha}
    for place, (kind, shares) in enumerate(KINDS.items()):
        seeds = range(first_seed + 1000 * place, first_seed + 1000 * place + runs)
        ends = [one_run(seed, *shares) for seed in seeds]
        moves = Counter(move for move, _ in ends)
        found[kind] = {
            "promoted": moves[Move.PROMOTE] / runs,
            "withdrawn": moves[Move.WITHDRAW] / runs,
            "labels_median": float(np.median([labels for _, labels in ends])),
            "labels_90th": float(np.quantile([labels for _, labels in ends], 0.9)),
        }
    return found


ROWS: dict[str, Callable[[], dict[str, Any]]] = {"candidate gate": candidate_gate}

if __name__ == "__main__":
    print(json.dumps({name: row() for name, row in ROWS.items()}, indent=2))
