"""Only frauds are ever reported: what was served, beside what is served with all labels.

The fraud handbook with default settings and ``unreported = {class: 0, after: "7d"}``. Each fraud is
reported at a time of its own within 14 days, most within the seven after which rows mature; no
other row ever has a label. Beside it the same stream with every label, seven days late.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import peers
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from worlds import DATA

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.unreported import Unreported
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream
from bento_selfheal.simulation.table import package_table

SEEDS = (42, 0, 1)
DAYS = 7
MEAN_DAYS = 3.0
"""A tenth of the frauds are reported later than after a week."""
LATEST_DAYS = 14.0
ASKED = 0.97


def served_precision(run: Backtest, scored: NDArray[np.bool_]) -> tuple[float, float]:
    """Average precision of what was served, and of the frozen model, on the rows that count."""
    truth = run.answers("labels")
    counted = scored[: len(truth)]
    served, frozen = (
        float(average_precision_score(truth[counted], run.answers(name)[counted]))
        for name in ("champion", "frozen")
    )
    return served, frozen


def reported(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Rows between each row and its report, ``(n,)``."""
    days = np.random.default_rng([seed, 19]).exponential(MEAN_DAYS, len(labels))
    return (np.minimum(days, LATEST_DAYS) * peers.ROWS_A_DAY).astype(np.int64)


def positives_only() -> dict[str, Any]:
    """The row of the table: each seed's runs, and the mean of their ratios."""
    runs = {str(seed): one_seed(seed) for seed in SEEDS}
    ratio = float(np.mean([run["ratio"] for run in runs.values()]))
    return {"seeds": runs, "ratio": round(ratio, 4), "asked": ASKED}


def one_seed(seed: int, batches: int | None = None) -> dict[str, Any]:
    """What was served with every label, and with frauds alone.

    Args:
        seed: Of the package, the heals and the reports.
        batches: Batches of 100 rows to stream; all of them where it is not given.
    """
    train, rest, scored = peers.fraud_handbook(DATA)
    package = package_table("fraud", train, seed, None)
    end = None if batches is None else batches * 100
    labels = rest.labels.astype(np.int64)[:end]
    seconds = 100 * 86_400.0 / peers.ROWS_A_DAY
    stream = Stream(rest.rows[:end], labels, peers.FRAUD_DELAY, seconds=seconds)
    waits = Unreported.model_validate({"class": 0, "after": f"{DAYS}d"})
    runs = {
        "all_labels": (Settings(seed=seed), {}),
        "positives_only": (
            Settings(seed=seed, unreported=waits),
            {"labelled": labels == 1, "delays": reported(labels, seed)},
        ),
    }
    found: dict[str, Any] = {}
    for name, (settings, pattern) in runs.items():
        run = Backtest(package, settings)
        for _ in run.run(stream, **pattern):
            pass
        served, frozen = served_precision(run, scored)
        counts = run.parts.scoreboard.counts
        found[name] = {
            "average_precision": round(served, 4), "frozen": round(frozen, 4),
            "promotions": counts.promotions, "rollbacks": counts.rollbacks,
            "unreported": run.pipeline.status()["unreported"],
        }  # fmt: skip
        print(name, found[name], flush=True)
    ratio = found["positives_only"]["average_precision"] / found["all_labels"]["average_precision"]
    return {**found, "ratio": round(ratio, 4)}
