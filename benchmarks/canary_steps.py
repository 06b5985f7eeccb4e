"""What becomes of a canary, and what waiting for it costs.

    python benchmarks/canary_steps.py

*Canary steps.* The service's own evidence (`Canary`) follows a canary of 10 percent on labelled
rows, ten at a time, until it answers all or is rolled back. It decides 4 % of the rows right that
the champion gets wrong, and so many more the other way round as it is worse by. Both are
as sure of a row as each other: probabilities lie between 0.55 and 0.95 for what they say.

*Canary lift.* Backtests of the article's model on rows of its data that drift, without a canary and
with one: the accuracy served above that of the frozen model, over all rows.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from record import article_home

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import OperatingPoint
from bento_selfheal.healing.champion.canary import Canary, Underway
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.scoring.losses import row_losses
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream, article_rows

RUNS, BATCH, ACCURACY, CHANGED = 200, 10, 0.8, 0.04
MOST = 20_000
FIRST_SEED = 80_000
"""Of the runs that are measured; development had seeds below 1,000."""
WORSE = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Points of accuracy that the canary is worse by, as shares."""
SHARES = ("", "50", "10")
STREAMS, CLEAN, DRIFTED, REQUEST, LATE = 5, 500, 5000, 5, 100


def one_run(canary: Canary, underway: Underway, seed: int, worse: float) -> tuple[str, int]:
    """What becomes of one canary, and after how many labels."""
    generator, costs = np.random.default_rng(seed), Thresholds()
    canary.begin(underway)
    for count in range(BATCH, MOST + 1, BATCH):
        labels = generator.integers(0, 2, BATCH)
        right = generator.random(BATCH) < ACCURACY
        lost, won = (CHANGED + worse) / ACCURACY, CHANGED / (1 - ACCURACY)
        flips = generator.random(BATCH) < np.where(right, lost, won)
        sure = generator.uniform(0.55, 0.95, BATCH)
        champion, own = (
            row_losses(
                np.where(ok == (labels == 1), sure, 1 - sure).astype(np.float32),
                labels.astype(np.float32), costs,
            )
            for ok in (right, right ^ flips)
        )  # fmt: skip
        answered = generator.random(BATCH) < underway.share
        if canary.learn(own - champion, answered, np.ones(BATCH)):
            return "rolled_back", count
        if canary.due:
            return "answers_all", count
    return "undecided", MOST


def canary_steps(runs: int = RUNS, first_seed: int = FIRST_SEED) -> dict[str, Any]:
    """Shares of the runs by what became of the canary, and the labels that it took."""
    with article_home():
        package = open_package(os.environ["BENCH_TAG"], "cpu")
        settings = Settings(canary=("10",))  # type: ignore[arg-type] # as a variable gives it
        parts = Backtest(package, settings).parts
    assert parts.lineage.serving is not None
    underway = Underway(
        parts.lineage.serving, parts.lineage.champion, OperatingPoint(), 0.1, 0.0, "bench"
    )
    found: dict[str, Any] = {"runs": runs, "labels_at_least": settings.tuning.canary_labels}
    for place, worse in enumerate(WORSE):
        first = first_seed + 1000 * place
        ends = [one_run(parts.canary, underway, s, worse) for s in range(first, first + runs)]
        found[f"worse by {100 * worse:g} points"] = {
            **{what: sum(end == what for end, _ in ends) / runs
               for what in ("answers_all", "rolled_back", "undecided")},
            "labels_median": float(np.median([labels for _, labels in ends])),
            "labels_90th": float(np.quantile([labels for _, labels in ends], 0.9)),
        }  # fmt: skip
    return found


def stream_of(seed: int) -> Stream:
    """Clean rows, then drifted ones."""
    generator = np.random.default_rng([seed, 1])
    parts = [article_rows(CLEAN, 0.0, generator), article_rows(DRIFTED, 2.2, generator)]
    rows, labels = (
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    return Stream(rows, labels.astype(np.int64), LATE, REQUEST)


def canary_lift(streams: int = STREAMS, first_seed: int = FIRST_SEED) -> dict[str, Any]:
    """The lift over all rows, mean over streams, without a canary and with shares."""
    found: dict[str, Any] = {"streams": streams, "rows": CLEAN + DRIFTED}
    with article_home():
        package = open_package(os.environ["BENCH_TAG"], "cpu")
        for shares in SHARES:
            lifts = []
            for seed in range(first_seed, first_seed + streams):
                run = Backtest(package, Settings(canary=shares, seed=seed))  # type: ignore[arg-type]
                deque(run.run(stream_of(seed)), maxlen=0)
                lifts.append(float((run.correct("champion") - run.correct("frozen")).mean()))
            found[f"{shares} percent first" if shares else "all at once"] = float(np.mean(lifts))
    return found


ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    "canary steps": canary_steps,
    "canary lift": canary_lift,
}

if __name__ == "__main__":
    print(json.dumps({name: row() for name, row in ROWS.items()}, indent=2))
