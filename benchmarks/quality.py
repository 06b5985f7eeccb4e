"""How good the healing is, with default settings, beside peers under the same label delay.

    make bench-quality

Writes benchmarks/results/quality.json, experiment by experiment as they are done. Every figure is
on answers given before their label was known, or on fresh rows. Each seed of each experiment runs
in a process of its own, as many at once as there are processors. Names of experiments may follow
the command.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import numpy as np
import peers
import torch
from against_peers import REAL, STREAMS, against_peers
from numpy.typing import NDArray
from readme import STREAM, update
from sklearn.metrics import average_precision_score, roc_auc_score
from worlds import DATA, article_stream, elec, package_article, ten_sources

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import cost_of, row_losses
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream, article_rows, read_table
from bento_selfheal.simulation.table import package_table, table_stream

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "quality.json"
SEEDS = (42, *range(9))
NEVER = 10**9
CALM_SEEDS, CALM_BATCHES = range(200), 60
Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = Sequence[Row]


def healed(package: Package, stream: Stream, seed: int, costs: Thresholds | None = None) -> tuple[
    Backtest, float
]:  # fmt: skip
    """Run a stream with default settings; the backtest and the accuracy of what was served."""
    run = Backtest(package, Settings(seed=seed), costs)
    served = sum((r.champion for r in run.run(stream)), Scores(0, 0, 0, 0))
    return run, served.accuracy


def fresh(run: Backtest, drift: float, seed: int) -> tuple[Table, NDArray[np.float32]]:
    """20,000 fresh drifted rows and what the champion says of them."""
    rows = article_rows(20_000, drift, np.random.default_rng([seed, 9]))
    with torch.no_grad():
        return rows, run.pipeline.parts.lineage.champion(torch.from_numpy(rows.rows)).numpy()


def article(drift: float, labelled: bool, seed: int) -> Row:
    """The article's stream: accuracy and AUC on fresh rows, accuracy of what was served."""
    package = package_article(seed)
    before = package.model.state_dict()
    kept = {k: v.clone() for k, v in before.items()}
    run, served = healed(package, article_stream(seed, drift, 100 if labelled else NEVER), seed)
    if not all(torch.equal(before[k], kept[k]) for k in kept):
        raise AssertionError("backbone, head or clean adapter moved")
    rows, answers = fresh(run, drift, seed)
    at = run.pipeline.parts.policy.point.threshold
    return {
        "accuracy": Scores.of(answers, rows.labels, at).accuracy,
        "auc": float(roc_auc_score(rows.labels, answers)),
        "served": served,
        "frozen": Scores.of(package.baseline(rows.rows), rows.labels).accuracy,
    }


def article_merged(rows: Rows) -> Row:
    return {**means(rows), "lowest_accuracy": min(row["accuracy"] for row in rows)}


def costs(drift: float, seed: int) -> Row:
    """Cost on fresh rows over the Bayes cost, by costs of a miss and of an alarm."""
    out: Row = {}
    for miss, alarm in ((5000, 15), (5000, 200), (1000, 200)):
        price = Thresholds(miss_cost=miss, alarm_cost=alarm)
        run, _ = healed(package_article(seed), article_stream(seed, drift, 100), seed, price)
        rows, answers = fresh(run, drift, seed)
        scores = Scores.of(answers, rows.labels, run.pipeline.parts.policy.point.threshold)
        bayes = peers.bayes_cost(rows.rows, rows.labels, drift, miss, alarm)
        out[f"{miss}:{alarm}"] = cost_of(scores, price) / bayes
    return out


def costs_merged(rows: Rows) -> Row:
    out: Row = {}
    for name, mean in means(rows).items():
        out |= {name: mean, f"{name}, worst": max(row[name] for row in rows)}
    return out


def electricity(delay: int, seed: int) -> Row:
    """Elec2: accuracy of what was served."""
    train, rest = elec()
    package = package_table("elec", train, seed, None)
    run, served = healed(package, table_stream(rest, package, delay), seed)
    figures, counts = run.figures(), run.pipeline.parts.scoreboard.counts
    return {
        "frozen": figures["frozen"]["accuracy"] or 0.0,
        "served": served,
        "challenger": figures["challenger"]["accuracy"] or 0.0,
        "promotions": counts.promotions,
        "rollbacks": counts.rollbacks,
    }


def electricity_merged(rows: Rows) -> Row:
    moves = {k: sum(row[k] for row in rows) for k in ("promotions", "rollbacks")}
    return {**means(rows), **moves, "served_by_seed": [row["served"] for row in rows]}


def electricity_peers(delay: int, seed: int) -> Row:
    """The peers on Elec2 under the same delay."""
    train, rest = elec()
    package = package_table("elec", train, seed, None)
    stream = table_stream(rest, package, delay)
    taught = table_stream(train, package, 0).labels
    out: Row = {}
    for name in ("arf10", "hat", "logistic"):
        peer = getattr(peers, name)
        answers = peer(train.rows, taught, stream.rows, stream.labels, delay, seed)
        out[name] = Scores.of(answers, stream.labels).accuracy
    out["tent"] = Scores.of(peers.tent(package.model, stream.rows), stream.labels).accuracy
    out["retrain_all_weights"] = Scores.of(
        peers.retrain(train.rows, taught, stream.rows, stream.labels, delay, seed), stream.labels
    ).accuracy
    recipe = Backtest(package, Settings(recipe="article", gate="always", batch_size=100))
    served = sum((r.champion for r in recipe.run(stream)), Scores(0, 0, 0, 0))
    return {**out, "article_recipe": served.accuracy}


def few_labels(seed: int) -> Row:
    """Elec2 with all rows labelled, and with 5 % of them: the lift of what was served."""
    train, rest = elec()
    package = package_table("elec", train, seed, None)
    stream = table_stream(rest, package, 100)
    out: Row = {}
    for name, share in (("full", 1.0), ("few", 0.05)):
        mask = np.random.default_rng(seed).random(len(stream.labels)) < share
        run = Backtest(package, Settings(seed=seed))
        out[name] = float(np.mean([r.lift for r in run.run(stream, labelled=mask)]))
    return out


def few_labels_merged(rows: Rows) -> Row:
    mean = means(rows)
    kept = [row["few"] / row["full"] for row in rows]
    return {**mean, "kept": mean["few"] / mean["full"], "kept_by_seed": kept}


def noisy_source(seed: int) -> Row:
    """Elec2 with ten sources, one of which sends random labels, against none that does."""
    train, rest = elec()
    package = package_table("elec", train, seed, None)
    stream = table_stream(rest, package, 100)
    generator = np.random.default_rng(seed)
    names = ten_sources(len(stream.labels), generator)
    liar = np.asarray([name == "s3" for name in names])
    random = np.where(liar, generator.integers(0, 2, len(liar)), stream.labels)
    out: Row = {}
    for name, told in (("clean", stream.labels), ("poisoned", random)):
        run = Backtest(package, Settings(seed=seed))
        reports = list(run.run(stream, sources=names, told=told))
        total = sum((r.champion for r in reports), Scores(0, 0, 0, 0))
        out[name] = total.accuracy
        status = run.pipeline.parts.batches.sources.status()
        out[f"{name}_quarantined"] = [n for n, s in status.items() if s["quarantined"]]
    return {**out, "loss": out["clean"] - out["poisoned"]}


def calm(kind: str, seed: int) -> Row:
    """A stream without drift: whether a promotion was harmful, and what was lost.

    A promotion is harmful when the gate's loss of what it promoted is higher, on rows of the
    same kind that the run has not seen, than that of the frozen model.
    """
    package, stream, held, truth = calm_world(kind, seed)
    run = Backtest(package, Settings(seed=seed))
    hurt, lift, seen = False, 0.0, None
    costs = run.pipeline.parts.controls.thresholds
    before = row_losses(package.baseline(held), truth, costs).mean()
    for report in run.run(stream):
        lift += report.lift
        serving = run.pipeline.parts.lineage.serving
        if serving is not None and serving.version != seen:
            seen = serving.version
            with torch.no_grad():
                answers = run.pipeline.parts.lineage.champion(torch.from_numpy(held)).numpy()
            hurt |= bool(row_losses(answers, truth, costs).mean() > before + 1e-4)
    promoted = run.pipeline.parts.scoreboard.counts.promotions > 0
    return {"harmful": hurt, "promoted": promoted, "loss": -lift / len(stream)}


def calm_merged(rows: Rows) -> Row:
    return {
        "runs": len(rows),
        "batches": CALM_BATCHES,
        "harmful_share": sum(row["harmful"] for row in rows) / len(rows),
        "largest_loss": max(row["loss"] for row in rows),
        "mean_loss": float(np.mean([row["loss"] for row in rows])),
        "runs_with_promotion": sum(row["promoted"] for row in rows),
    }


def calm_world(kind: str, seed: int) -> tuple[
    Package, Stream, NDArray[np.float32], NDArray[np.float32]
]:  # fmt: skip
    """A packaged model, a stream without drift, and rows of the same kind to judge on."""
    n = CALM_BATCHES * 100
    generator = np.random.default_rng([seed, 3])
    if kind == "article":
        package = package_article(seed % 10)
        rows = article_rows(n + 20_000, 0.0, generator)
        labels = rows.labels
    else:
        file, label, share = REAL[kind]
        table = read_table(DATA / file, label)
        order = generator.permutation(len(table.rows))
        table = Table(table.features, table.rows[order], table.labels[order])
        train, rows = table.split(share)
        package = package_table("calm", train, seed, None)
        labels = table_stream(rows, package, 0).labels
    stream = Stream(rows.rows[:n], labels[:n].astype(np.int64), 100)
    return package, stream, rows.rows[n:], labels[n:].astype(np.float32)


def fraud(seed: int) -> Row:
    """The fraud handbook: average precision of what was served from 22 April on."""
    train, rest, scored = peers.fraud_handbook(DATA)
    package = package_table("fraud", train, seed, None)
    run = Backtest(package, Settings(seed=seed))
    for _ in run.run(Stream(rest.rows, rest.labels.astype(np.int64), peers.FRAUD_DELAY)):
        pass
    counted = scored[: len(run.answers("labels"))]
    truth = run.answers("labels")[counted]
    out: Row = {
        name: float(average_precision_score(truth, run.answers(name)[counted]))
        for name in ("frozen", "champion", "challenger")
    }
    return {**out, "promotions": run.pipeline.parts.scoreboard.counts.promotions}


def fraud_peer(seed: int) -> Row:
    """All weights retrained daily on the newest seven days of known labels."""
    answers, truth = peers.retrain_daily(DATA, seed)
    return {"retrain_daily": float(average_precision_score(truth, answers))}


def fraud_river(seed: int) -> Row:
    """River on the fraud handbook, under the same delay of labels."""
    train, rest, scored = peers.fraud_handbook(DATA)
    out: Row = {}
    for name in ("logistic", "hat"):
        peer = getattr(peers, name)
        answers = peer(train.rows, train.labels, rest.rows, rest.labels, peers.FRAUD_DELAY, seed)
        out[name] = float(average_precision_score(rest.labels[scored], answers[scored]))
    return out


@dataclass(frozen=True)
class Experiment:
    """What is measured for each seed, and how the seeds make one row."""

    measure: Callable[..., Row]
    given: tuple[Any, ...] = ()
    seeds: Sequence[int] = SEEDS[:1]
    merged: Callable[[Rows], Row] = lambda rows: rows[0]


EXPERIMENTS = {
    "fraud handbook": Experiment(fraud),
    "fraud handbook, peer": Experiment(fraud_peer),
    "fraud handbook, River": Experiment(fraud_river),
    **{f"{STREAM}{name}, {late}": Experiment(against_peers, (name, late))
       for name, late in STREAMS},
    "Elec2, 100 late": Experiment(electricity, (100,), SEEDS[:3], electricity_merged),
    "Elec2, 500 late": Experiment(electricity, (500,), SEEDS[:3], electricity_merged),
    "Elec2, 100 late, peers": Experiment(electricity_peers, (100,)),
    "Elec2, 500 late, peers": Experiment(electricity_peers, (500,)),
    "Elec2, one source in ten random": Experiment(noisy_source),
    "Elec2, 5 % labelled": Experiment(few_labels, (), SEEDS, few_labels_merged),
    "article, drift 2.2": Experiment(article, (2.2, True), SEEDS, article_merged),
    "article, drift 3.5": Experiment(article, (3.5, True), SEEDS, article_merged),
    "article, drift 2.2, no labels": Experiment(article, (2.2, False), SEEDS, article_merged),
    "article, drift 3.5, no labels": Experiment(article, (3.5, False), SEEDS, article_merged),
    "costs, drift 2.2": Experiment(costs, (2.2,), SEEDS, costs_merged),
    "costs, drift 3.5": Experiment(costs, (3.5,), SEEDS, costs_merged),
    "calm, Elec2 shuffled": Experiment(calm, ("Elec2",), CALM_SEEDS, calm_merged),
    "calm, insects_gradual shuffled": Experiment(
        calm, ("insects_gradual",), CALM_SEEDS, calm_merged
    ),
    "calm, article": Experiment(calm, ("article",), CALM_SEEDS, calm_merged),
}  # fmt: skip


def means(rows: Rows) -> Row:
    """The mean of each figure."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def measured(name: str, seed: int) -> tuple[Row, float]:
    """One seed of an experiment, in a model store of its own, and the processor seconds of it."""
    torch.set_num_threads(1)
    started = time.process_time()
    experiment = EXPERIMENTS[name]
    with tempfile.TemporaryDirectory() as home:
        use_home(Path(home))
        found = experiment.measure(*experiment.given, seed)
    return found, time.process_time() - started


def row_of(name: str, done: Mapping[int, tuple[Row, float]]) -> Row:
    """The row of an experiment all of whose seeds are done."""
    experiment = EXPERIMENTS[name]
    merged = experiment.merged([done[seed][0] for seed in experiment.seeds])
    if 1 < len(experiment.seeds) <= len(SEEDS):
        merged["seeds"] = list(experiment.seeds)
    return {**merged, "seconds": round(sum(seconds for _, seconds in done.values()), 1)}


def main() -> None:
    wanted = sys.argv[1:] or list(EXPERIMENTS)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-quality", "settings": "defaults"}
    done: dict[str, dict[int, tuple[Row, float]]] = {name: {} for name in wanted}
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        waiting = {
            pool.submit(measured, name, seed): (name, seed)
            for name in wanted
            for seed in EXPERIMENTS[name].seeds
        }
        for future in as_completed(waiting):
            name, seed = waiting[future]
            done[name][seed] = future.result()
            if len(done[name]) == len(EXPERIMENTS[name].seeds):
                results[name] = row_of(name, done[name])
                print(name, json.dumps(results[name]), flush=True)
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("quality")


if __name__ == "__main__":
    main()
