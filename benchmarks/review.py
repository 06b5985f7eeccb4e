"""Labels for a few rows only: what is shown of them, what they teach, and what they let through.

    make bench-labels             with the other rows of labels.json
    python benchmarks/review.py   two hours on two cores; names of experiments may follow

Labels come for the 5 % most suspicious rows, and for one in a hundred of the others by chance. What
the service shows is compared with the truth, which it never sees, on the rows whose labels are due;
naive figures take the labels as they come. As one draw says little about an estimate, the rows that
are asked for are drawn 200 times more, from the same answers, by the code that serves.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import numpy as np
import peers
from numpy.typing import NDArray
from readme import update
from scipy.stats import beta
from sklearn.metrics import average_precision_score
from worlds import DATA, elec

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.review.asked_row import DAY
from bento_selfheal.healing.evidence.gate import Gate
from bento_selfheal.healing.review import selection
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.review import Review, Reviewer
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream, read_table
from bento_selfheal.simulation.table import package_table, table_stream

RESULTS = Path(__file__).parent / "results" / "labels.json"
POLICY: dict[str, Any] = {"review": "capacity", "review_share": 0.05, "review_explored": 0.01}
DRAWS = 200
SEED = 42
NULLS, ROWS, ROUND = 2000, 10_000, 250
NOISE = 0.2
REAL = {
    "Elec2": ("elec.csv", "class", 0.1),
    "insects_gradual": ("insects_gradual.csv", "target", 0.3),
}
ROWS_A_DAY = 10_000
QUEUES = (("random", 1.0, (100, 200, 400)), ("queue", selection.AT_RANDOM, (100, 200)))
"""Rows that are chosen at random have the same code, with all labels at random."""
QUEUE_SEEDS = 10
Row: TypeAlias = dict[str, Any]
Numbers: TypeAlias = NDArray[np.float64]


def electricity() -> tuple[Package, Stream, int]:
    """Elec2: the package, the stream, and the first row that counts for average precision."""
    train, rest = elec()
    package = package_table("elec", train, SEED, None)
    return package, table_stream(rest, package, 100), 0


def handbook() -> tuple[Package, Stream, int]:
    """The fraud handbook; the week in which no label has come yet does not count."""
    train, rest, scored = peers.fraud_handbook(DATA)
    package = package_table("fraud", train, SEED, None)
    stream = Stream(rest.rows, rest.labels.astype(np.int64), peers.FRAUD_DELAY)
    return package, stream, int(np.argmax(scored))


WORLDS = {"Elec2": electricity, "fraud handbook": handbook}


def figures(
    served: Numbers, frozen: Numbers, labels: Numbers, at: Numbers, weights: Numbers | None = None
) -> dict[str, float]:
    """Accuracy, recall and lift in points of 100, each row for one or for its weight."""
    own = Scores.of(served, labels, at, weights)
    before = Scores.of(frozen, labels, weights=weights)
    lift = own.accuracy - before.accuracy
    return {"accuracy": 100 * own.accuracy, "recall": 100 * own.recall, "lift": 100 * lift}


def few_labels(name: str) -> Row:
    """One stream with labels for few rows, and with all labels."""
    package, stream, first = WORLDS[name]()
    started, precision = time.perf_counter(), {}
    runs = {}
    for kind, policy in (("few", POLICY), ("all", {})):
        run = runs[kind] = Backtest(package, Settings(seed=SEED, **policy))
        for _ in run.run(stream):
            pass
        truth = run.answers("labels")[first:]
        precision[kind] = float(average_precision_score(truth, run.answers("champion")[first:]))
    frozen = runs["few"].answers("frozen")[first:]
    counts = runs["few"].parts.scoreboard.counts
    return {
        **_errors(runs["few"], package, stream),
        "average_precision": precision,
        "average_precision_frozen": float(average_precision_score(truth, frozen)),
        "ratio": precision["few"] / precision["all"],
        "labels": counts.joined, "promotions": counts.promotions, "rollbacks": counts.rollbacks,
        "policy": POLICY, "minutes": round((time.perf_counter() - started) / 60, 1),
    }  # fmt: skip


def _errors(run: Backtest, package: Package, stream: Stream) -> Row:
    """Figures shown, true and naive, and errors of those shown over many draws."""
    due = len(run.answers("labels")) - stream.delay
    names = ("champion", "frozen", "labels", "thresholds")
    answers = [run.answers(name)[:due].astype(np.float64) for name in names]
    truth = figures(*answers)
    status = run.pipeline.status()
    shown = {name: 100 * status["champion"][name] for name in ("accuracy", "recall")}
    shown["lift"] = 100 * status["lift"]["mean"]
    reviews = _reviews(run, package, stream.batch)
    drawn = []
    for draw in range(DRAWS):
        keys = [(draw << 32 | n).to_bytes(12, "big") for n in range(len(reviews))]
        asked = np.concatenate([r.asked(k) for r, k in zip(reviews, keys, strict=True)])[:due]
        chances = np.concatenate([r.chances for r in reviews])[:due]
        known = [values[asked] for values in answers]
        drawn.append((figures(*known, weights=1 / chances[asked]), figures(*known)))
    errors = {n: np.asarray([own[n] - truth[n] for own, _ in drawn]) for n in truth}
    naive = {n: float(np.mean([n_[n] - truth[n] for _, n_ in drawn])) for n in truth}
    return {
        "truth": truth, "shown": shown, "error": {n: shown[n] - truth[n] for n in truth},
        "mean_error": {n: float(e.mean()) for n, e in errors.items()},
        "typical_error": {n: float(np.sqrt((e**2).mean())) for n, e in errors.items()},
        "naive_mean_error": naive,
    }  # fmt: skip


def _reviews(run: Backtest, package: Package, batch: int) -> list[Review]:
    """Which rows are looked at in any case, request by request, as when they were answered."""
    rule = POLICY["review"], POLICY["review_share"], POLICY["review_explored"]
    reviewer = Reviewer(*rule, package.baseline(package.reference_rows))
    served, at = run.answers("champion"), run.answers("thresholds")
    found = []
    for start in range(0, len(served), batch):
        review = reviewer.review(served[start : start + batch], float(at[start]))
        if review is None:
            raise AssertionError("every row is looked at")
        found.append(review)
    return found


def null_streams() -> Row:
    """Streams on which the challenger is no better over all rows, but better by two points on those
    that are looked at; how often the gate lets it through, and how often without weights."""
    settings, bad, naive = Settings(), 0, 0
    for seed in range(NULLS):
        generator = np.random.default_rng([seed, 19])
        flagged = generator.random(ROWS) < POLICY["review_share"]
        side = np.where(flagged, 0.02, -0.02 * flagged.mean() / (1 - flagged.mean()))
        gains = generator.normal(scale=NOISE, size=ROWS).clip(-1, 1) + side
        review = Review(POLICY["review_explored"], flagged)
        asked = review.asked(seed.to_bytes(12, "big"))
        scale = np.minimum(review.explored / review.chances, 1.0)
        bad += _lets_through(settings, gains.clip(-1, 1), asked, scale)
        naive += _lets_through(settings, gains.clip(-1, 1), asked, np.ones(ROWS))
    high = float(beta.ppf(0.975, bad + 1, NULLS - bad))
    return {
        "streams": NULLS, "promoted": bad, "share": bad / NULLS, "upper_end": high,
        "alpha": settings.gate_alpha, "share_without_weights": naive / NULLS,
    }  # fmt: skip


def _lets_through(
    settings: Settings, gains: Numbers, asked: NDArray[np.bool_], scale: Numbers
) -> bool:
    # Trials are a quarter as long as by default, so that several end within a run.
    gate = Gate(settings.gate_alpha, settings.tuning.trial_rows // 4)
    for at in range(0, ROWS, ROUND):
        known = np.flatnonzero(asked[at : at + ROUND]) + at
        if len(known) and gate.update(gains[known], scale=scale[known]).promote:
            return True
    return False


def queue_or_random(name: str, seed: int) -> list[Row]:
    """One stream with the review queue and with rows drawn at random, at several budgets: rows
    labelled, and the lift of what was served, on all rows, in points of 100."""
    file, label, share = REAL[name]
    train, rest = read_table(DATA / file, label).split(share)
    package = package_table("queue", train, seed, None)
    whole = table_stream(rest, package, 100)
    stream = Stream(whole.rows, whole.labels, whole.delay, seconds=DAY * 100 / ROWS_A_DAY)
    points = []
    for kind, at_random, budgets in QUEUES:
        for budget in budgets:
            run = Backtest(package, Settings(seed=seed, review="queue", review_budget=budget))
            with patch.object(selection, "AT_RANDOM", at_random):
                for _ in run.run(stream):
                    pass
            lift = 100 * float((run.correct("champion") - run.correct("frozen")).mean())
            labels = run.parts.scoreboard.counts.joined
            point = {"kind": kind, "budget": budget, "seed": seed, "labels": labels, "lift": lift}
            points.append(point)
            print(name, point, flush=True)
    return points


def queue_against_random(name: str) -> Row:
    """Labels that the queue needs for its lift, over those that random choice needs for it."""
    with ProcessPoolExecutor(2, initializer=use_home, initargs=(Path(tempfile.mkdtemp()),)) as pool:
        runs = pool.map(queue_or_random, [name] * QUEUE_SEEDS, range(SEED, SEED + QUEUE_SEEDS))
        return efficiency([point for points in runs for point in points])


def efficiency(points: list[Row]) -> Row:
    """Means over the seeds, and the ratio of labels at each budget of the queue.

    Random choice is asked along the line through its means, lift against the logarithm of labels;
    beyond its last point the ratio is said to be below that of this point.
    """
    mean: dict[tuple[str, int], Row] = {}
    for kind, _, budgets in QUEUES:
        for budget in budgets:
            own = [p for p in points if (p["kind"], p["budget"]) == (kind, budget)]
            lifts = [p["lift"] for p in own]
            mean[kind, budget] = {
                "kind": kind, "budget": budget, "seeds": len(own),
                "labels": float(np.mean([p["labels"] for p in own])), "lift": float(np.mean(lifts)),
                "standard_error": float(np.std(lifts, ddof=1) / np.sqrt(len(own))),
            }  # fmt: skip
    by_chance = [m for m in mean.values() if m["kind"] == "random"]
    lifts = np.maximum.accumulate([m["lift"] for m in by_chance])
    needed = np.log([m["labels"] for m in by_chance])
    for m in mean.values():
        if m["kind"] == "queue":
            m["random_labels"] = float(np.exp(np.interp(m["lift"], lifts, needed)))
            m["beyond"] = bool(m["lift"] > lifts[-1])
            m["below"] = bool(m["lift"] < lifts[0])
            m["ratio"] = m["labels"] / m["random_labels"]
    return {"means": list(mean.values()), "points": points}


EXPERIMENTS = {
    "null streams": null_streams,
    **{name: lambda name=name: few_labels(name) for name in WORLDS},
    **{f"queue: {name}": lambda name=name: queue_against_random(name) for name in REAL},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        use_home(Path(folder))
        for name in sys.argv[1:] or EXPERIMENTS:
            found = EXPERIMENTS[name]()
            print(name, json.dumps(found), flush=True)
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            part, _, stream = name.rpartition(": ")
            part = "review_queue" if part else "review"
            results[part] = {**results.get(part, {}), stream: found}
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("labels")


if __name__ == "__main__":
    main()
