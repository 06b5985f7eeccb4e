"""How good the healing is, with default settings, beside peers under the same label delay.

    make bench-quality

Writes benchmarks/results/quality.json, row by row as they are done. Every figure is on answers
given before their label was known, or on fresh rows. One process a row keeps two cores busy.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import numpy as np
import peers
import torch
from against_peers import STREAMS, against_peers
from numpy.typing import NDArray
from readme import STREAM, update
from sklearn.metrics import average_precision_score, roc_auc_score
from worlds import DATA, article_stream, elec, package_article, ten_sources

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.losses import cost_of, row_losses
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream, Table, article_rows, read_table
from bento_selfheal.simulation.table import package_table, table_stream

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "quality.json"
SEEDS = (42, *range(9))
NEVER = 10**9
CALM_RUNS, CALM_BATCHES = 100, 60
NOISE = 0.005
Row = dict[str, Any]


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


def article(drift: float, labelled: bool) -> Row:
    """The article's stream: accuracy and AUC on fresh rows, accuracy of what was served."""
    found: dict[str, list[float]] = {k: [] for k in ("accuracy", "auc", "served", "frozen")}
    for seed in SEEDS:
        package = package_article(seed)
        before = package.model.state_dict()
        kept = {k: v.clone() for k, v in before.items()}
        run, served = healed(package, article_stream(seed, drift, 100 if labelled else NEVER), seed)
        same = all(torch.equal(before[k], kept[k]) for k in kept)
        if not same:
            raise AssertionError("backbone, head or clean adapter moved")
        rows, answers = fresh(run, drift, seed)
        at = run.pipeline.parts.policy.point.threshold
        found["accuracy"].append(Scores.of(answers, rows.labels, at).accuracy)
        found["auc"].append(float(roc_auc_score(rows.labels, answers)))
        found["served"].append(served)
        found["frozen"].append(Scores.of(package.baseline(rows.rows), rows.labels).accuracy)
    out = {k: float(np.mean(v)) for k, v in found.items()}
    return {**out, "lowest_accuracy": min(found["accuracy"]), "seeds": list(SEEDS)}


def costs(drift: float) -> Row:
    """Cost on fresh rows over the Bayes cost, mean over the seeds, by costs of miss and alarm."""
    out: Row = {}
    for miss, alarm in ((5000, 15), (5000, 200), (1000, 200)):
        price = Thresholds(miss_cost=miss, alarm_cost=alarm)
        ratios = []
        for seed in SEEDS:
            run, _ = healed(package_article(seed), article_stream(seed, drift, 100), seed, price)
            rows, answers = fresh(run, drift, seed)
            scores = Scores.of(answers, rows.labels, run.pipeline.parts.policy.point.threshold)
            bayes = peers.bayes_cost(rows.rows, rows.labels, drift, miss, alarm)
            ratios.append(cost_of(scores, price) / bayes)
        out[f"{miss}:{alarm}"] = float(np.mean(ratios))
        out[f"{miss}:{alarm}, worst"] = max(ratios)
    return out


def electricity(delay: int) -> Row:
    """Elec2: accuracy of what was served, seeds 42, 0, 1."""
    train, rest = elec()
    out: dict[str, list[float]] = {k: [] for k in ("frozen", "served", "challenger")}
    moves = {"promotions": 0, "rollbacks": 0}
    for seed in SEEDS[:3]:
        package = package_table("elec", train, seed, None)
        run, served = healed(package, table_stream(rest, package, delay), seed)
        figures = run.figures()
        out["served"].append(served)
        out["frozen"].append(figures["frozen"]["accuracy"] or 0.0)
        out["challenger"].append(figures["challenger"]["accuracy"] or 0.0)
        moves["promotions"] += run.pipeline.parts.scoreboard.counts.promotions
        moves["rollbacks"] += run.pipeline.parts.scoreboard.counts.rollbacks
    mean: Row = {k: float(np.mean(v)) for k, v in out.items()}
    return {**mean, "served_by_seed": out["served"], **moves, "seeds": list(SEEDS[:3])}


def electricity_peers(delay: int) -> Row:
    """The peers on Elec2 under the same delay."""
    train, rest = elec()
    package = package_table("elec", train, 42, None)
    stream = table_stream(rest, package, delay)
    taught = table_stream(train, package, 0).labels
    out: Row = {}
    for name in ("arf10", "hat", "logistic"):
        peer = getattr(peers, name)
        answers = peer(train.rows, taught, stream.rows, stream.labels, delay, 42)
        out[name] = Scores.of(answers, stream.labels).accuracy
    out["tent"] = Scores.of(peers.tent(package.model, stream.rows), stream.labels).accuracy
    out["retrain_all_weights"] = Scores.of(
        peers.retrain(train.rows, taught, stream.rows, stream.labels, delay, 42), stream.labels
    ).accuracy
    recipe = Backtest(package, Settings(recipe="article", gate="always", batch_size=100))
    served = sum((r.champion for r in recipe.run(stream)), Scores(0, 0, 0, 0))
    return {**out, "article_recipe": served.accuracy}


def few_labels() -> Row:
    """Elec2 with 5 % of the rows labelled: share of the full-label lift kept, seeds 42, 0, 1."""
    train, rest = elec()
    lifts: dict[str, list[float]] = {"full": [], "few": []}
    for seed in SEEDS[:3]:
        package = package_table("elec", train, seed, None)
        stream = table_stream(rest, package, 100)
        for name, share in (("full", 1.0), ("few", 0.05)):
            mask = np.random.default_rng(seed).random(len(stream.labels)) < share
            run = Backtest(package, Settings(seed=seed))
            reports = list(run.run(stream, labelled=mask))
            lifts[name].append(float(np.mean([r.lift for r in reports])))
    kept = [few / full for few, full in zip(lifts["few"], lifts["full"], strict=True)]
    mean: Row = {name: float(np.mean(values)) for name, values in lifts.items()}
    return {**mean, "kept": mean["few"] / mean["full"], "kept_by_seed": kept,
            "seeds": list(SEEDS[:3])}  # fmt: skip


def noisy_source() -> Row:
    """Elec2 with ten sources, one of which sends random labels, against none that does."""
    train, rest = elec()
    package = package_table("elec", train, 42, None)
    stream = table_stream(rest, package, 100)
    generator = np.random.default_rng(42)
    names = ten_sources(len(stream.labels), generator)
    liar = np.asarray([name == "s3" for name in names])
    random = np.where(liar, generator.integers(0, 2, len(liar)), stream.labels)
    out: Row = {}
    for name, told in (("clean", stream.labels), ("poisoned", random)):
        run = Backtest(package, Settings(seed=42))
        reports = list(run.run(stream, sources=names, told=told))
        total = sum((r.champion for r in reports), Scores(0, 0, 0, 0))
        out[name] = total.accuracy
        status = run.pipeline.parts.batches.sources.status()
        out[f"{name}_quarantined"] = [n for n, s in status.items() if s["quarantined"]]
    return {**out, "loss": out["clean"] - out["poisoned"]}


def calm(kind: str) -> Row:
    """Streams without drift: share of runs with a harmful promotion, largest loss.

    A promotion is harmful when the gate's loss of what it promoted is higher, on rows of the
    same kind that no run has seen, than that of the frozen model.
    """
    harmful, losses, promoted = 0, [], 0
    for seed in range(CALM_RUNS):
        package, stream, held, truth = calm_world(kind, seed)
        run = Backtest(package, Settings(seed=seed))
        hurt = False
        lift = 0.0
        seen: int | None = None
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
        harmful += hurt
        promoted += run.pipeline.parts.scoreboard.counts.promotions > 0
        losses.append(-lift / len(stream))
    return {
        "runs": CALM_RUNS, "batches": CALM_BATCHES, "harmful_share": harmful / CALM_RUNS,
        "largest_loss": max(losses), "runs_with_promotion": promoted,
    }  # fmt: skip


def calm_world(kind: str, seed: int) -> tuple[
    Package, Stream, NDArray[np.float32], NDArray[np.float32]
]:  # fmt: skip
    """A packaged model, a stream without drift, and rows of the same kind to judge on."""
    n = CALM_BATCHES * 100
    if kind == "article":
        package = package_article(seed % 10)
        rows = article_rows(n + 20_000, 0.0, np.random.default_rng([seed, 3]))
        labels = rows.labels
    else:
        table = read_table(DATA / "elec.csv", "class")
        order = np.random.default_rng([seed, 3]).permutation(len(table.rows))
        table = Table(table.features, table.rows[order], table.labels[order])
        train, rows = table.split(0.1)
        package = package_table("calm", train, seed, None)
        labels = table_stream(rows, package, 0).labels
    stream = Stream(rows.rows[:n], labels[:n].astype(np.int64), 100)
    return package, stream, rows.rows[n:], labels[n:].astype(np.float32)


def fraud() -> Row:
    """The fraud handbook: average precision of what was served from 22 April on."""
    train, rest, scored = peers.fraud_handbook(DATA)
    package = package_table("fraud", train, 42, None)
    run = Backtest(package, Settings(seed=42))
    for _ in run.run(Stream(rest.rows, rest.labels.astype(np.int64), peers.FRAUD_DELAY)):
        pass
    counted = scored[: len(run.answers("labels"))]
    truth = run.answers("labels")[counted]
    out: Row = {
        name: float(average_precision_score(truth, run.answers(name)[counted]))
        for name in ("frozen", "champion", "challenger")
    }
    return {**out, "promotions": run.pipeline.parts.scoreboard.counts.promotions}


def fraud_peer() -> Row:
    """All weights retrained daily on the newest seven days of known labels."""
    answers, truth = peers.retrain_daily(DATA, 42)
    return {"retrain_daily": float(average_precision_score(truth, answers))}


def fraud_river() -> Row:
    """River on the fraud handbook, under the same delay of labels."""
    train, rest, scored = peers.fraud_handbook(DATA)
    out: Row = {}
    for name in ("logistic", "hat"):
        peer = getattr(peers, name)
        answers = peer(train.rows, train.labels, rest.rows, rest.labels, peers.FRAUD_DELAY, 42)
        out[name] = float(average_precision_score(rest.labels[scored], answers[scored]))
    return out


ROWS = {
    "fraud handbook": (fraud,),
    "fraud handbook, peer": (fraud_peer,),
    "fraud handbook, River": (fraud_river,),
    "calm, Elec2 shuffled": (calm, "elec"),
    "calm, article": (calm, "article"),
    "Elec2, 100 late, peers": (electricity_peers, 100),
    "Elec2, 500 late, peers": (electricity_peers, 500),
    "article, drift 2.2": (article, 2.2, True),
    "article, drift 3.5": (article, 3.5, True),
    "article, drift 2.2, no labels": (article, 2.2, False),
    "article, drift 3.5, no labels": (article, 3.5, False),
    "costs, drift 2.2": (costs, 2.2),
    "costs, drift 3.5": (costs, 3.5),
    "Elec2, 100 late": (electricity, 100),
    "Elec2, 500 late": (electricity, 500),
    "Elec2, one source in ten random": (noisy_source,),
    "Elec2, 5 % labelled": (few_labels,),
    **{f"{STREAM}{name}, {late}": (against_peers, name, late) for name, late in STREAMS},
}


def measure(name: str) -> Row:
    """One row in a process and a model store of its own."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    function, *given = ROWS[name]
    with tempfile.TemporaryDirectory() as home:
        use_home(Path(home))
        found = function(*given)
    return {**found, "seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    wanted = sys.argv[1:] or list(ROWS)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-quality", "settings": "defaults"}
    with ProcessPoolExecutor(max_workers=2) as pool:
        waiting = {pool.submit(measure, name): name for name in wanted}
        for done in as_completed(waiting):
            results[waiting[done]] = done.result()
            print(waiting[done], json.dumps(done.result()), flush=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("quality")


if __name__ == "__main__":
    main()
