"""What sources that lie cost: served accuracy, time to quarantine, what was forgotten.

    make bench-poisoning

Ten sources label at random; 1, 3 or 5 of them lie. Writes benchmarks/results/poisoning.json, stream
by stream; ``python benchmarks/poisoning.py article targeted`` measures that stream and kind alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from readme import update
from sklearn.metrics import roc_auc_score
from worlds import article_stream, elec, package_article, ten_sources

from bento_selfheal.config.settings import Settings
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream
from bento_selfheal.simulation.table import package_table, table_stream

RESULTS = Path(__file__).parent / "results" / "poisoning.json"
KINDS = ("random", "flipped", "targeted")
COUNTS = (1, 3, 5)
SPEEDS = ("at once", "slowly")
Row = dict[str, Any]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Attack:
    """Who lies, how and how fast.

    Args:
        kind: ``random``: any class; ``flipped``: the other class; ``targeted``: rows of the
            positive class are called negative, and no other label is touched.
        liars: How many of the ten sources lie: the first ones.
        speed: ``at once``: every label of theirs from the first third on; ``slowly``: the share
            of lies rises from 0 there to 1 at the second third.
    """

    kind: str
    liars: int
    speed: str

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.speed}, {self.liars} of 10"

    @property
    def names(self) -> set[str]:
        return {f"s{i}" for i in range(self.liars)}

    def told(self, truth: Labels, sources: list[str], generator: np.random.Generator) -> Labels:
        """What the sources say of each row, ``(n,)``."""
        begun = (np.arange(len(truth)) - len(truth) // 3) / (len(truth) / 3)
        share = np.clip(begun, 0, 1) if self.speed == "slowly" else (begun >= 0) * 1.0
        lies = np.isin(sources, list(self.names)) & (generator.random(len(truth)) < share)
        lie = {
            "random": generator.integers(0, 2, len(truth)),
            "flipped": 1 - truth,
            "targeted": np.zeros_like(truth),
        }[self.kind]
        return np.where(lies, lie, truth)


NOTHING = Scores(0, 0, 0, 0)


@dataclass
class Followed:
    """What one run came to."""

    served: list[Scores]
    """By batch of answers."""
    frozen: Scores
    caught: dict[str, tuple[int, int]]
    """By quarantined source: in which batch of answers, and how many rows were forgotten."""
    answers: NDArray[np.float32]
    promotions: int
    rollbacks: int


def follow(package: Package, stream: Stream, sources: list[str], told: Labels, seed: int) -> (
    Followed
):  # fmt: skip
    """Run a stream with default settings on labels that its sources may have made up."""
    run = Backtest(package, Settings(seed=seed))
    out = Followed([], NOTHING, {}, np.zeros(0, np.float32), 0, 0)
    for report in run.run(stream, sources=sources, told=told):
        out.served.append(report.champion)
        out.frozen += report.shadow
        for event in run.events:
            if event.kind == "quarantine" and event.detail["source"] not in out.caught:
                out.caught[event.detail["source"]] = report.number, event.detail["rows"]
    out.answers = run.answers("champion")
    scoreboard = run.pipeline.parts.scoreboard.counts
    out.promotions, out.rollbacks = scoreboard.promotions, scoreboard.rollbacks
    return out


def compare(
    attack: Attack, stream: Stream, sources: list[str], told: Labels, clean: Followed, run: Followed
) -> Row:
    """The figures of one attack beside the clean run of the same stream."""
    first = int(np.flatnonzero(told != stream.labels)[0])
    begun = (first + stream.delay) // stream.batch + 1
    lying = np.flatnonzero(told != stream.labels)
    taken = forgotten = 0
    waits = []
    for name in sorted(attack.names):
        batch, rows = run.caught.get(name, (len(run.served) + 1, 0))
        own = lying[np.asarray(sources)[lying] == name]
        taken += int((own + stream.delay < batch * stream.batch).sum())
        forgotten += rows
        if name in run.caught:
            waits.append(batch - begun)
    before, after = (sum(r.served, NOTHING) for r in (clean, run))
    then, now = (sum(r.served[begun:], NOTHING) for r in (clean, run))
    since = begun * stream.batch

    def auc(answers: NDArray[np.float32]) -> float:
        return float(roc_auc_score(stream.labels[since : len(answers)], answers[since:]))

    return {
        "clean": before.accuracy, "served": after.accuracy, "frozen": run.frozen.accuracy,
        "loss": before.accuracy - after.accuracy,
        "loss_since": then.accuracy - now.accuracy,
        "auc_clean": auc(clean.answers), "auc": auc(run.answers),
        "recall_clean": then.recall, "recall": now.recall,
        "caught": len(waits), "honest_quarantined": len(run.caught) - len(waits),
        "batches_to_quarantine": waits, "lies_taken": taken, "labels_forgotten": forgotten,
        "honest_forgotten": sum(rows for _, rows in run.caught.values()) - forgotten,
        "liars": attack.liars, "honest_quarantined_clean": len(clean.caught),
        "promotions": run.promotions, "rollbacks": run.rollbacks,
    }  # fmt: skip


def article_world(seed: int) -> tuple[Package, Stream]:
    """The article's classifier and its stream under drift 3.5, labels 100 rows late."""
    return package_article(seed), article_stream(seed, 3.5, 100)


def elec_world(seed: int) -> tuple[Package, Stream]:
    """Elec2: trained on the first tenth, the rest streamed, labels 100 rows late."""
    train, rest = elec()
    package = package_table("elec", train, seed, None)
    return package, table_stream(rest, package, 100)


WORLDS: dict[str, Callable[[int], tuple[Package, Stream]]] = {
    "article": article_world,
    "Elec2": elec_world,
}


ATTACKS = [Attack(k, n, v) for k in KINDS for v in SPEEDS for n in COUNTS]
SEEDS = {"article": (42, 0, 1), "Elec2": (42, 0)}
"""Seeds by stream: a run on Elec2 takes half a minute."""


HONEST = "honest"


def poison(
    package: Package, stream: Stream, attacks: Sequence[Attack], seed: int
) -> Iterator[tuple[str, Row]]:
    """The clean run of a stream, then each attack on it; the figures of each by name."""
    sources = ten_sources(len(stream.labels), np.random.default_rng([seed, 11]))
    clean = follow(package, stream, sources, stream.labels, seed)
    for attack in attacks:
        told = attack.told(stream.labels, sources, np.random.default_rng([seed, 13]))
        run = follow(package, stream, sources, told, seed)
        yield attack.name, compare(attack, stream, sources, told, clean, run)


def by_feature(table: Table, feature: int, generator: np.random.Generator) -> list[str]:
    """Sources of which each labels one tenth of a feature's range, by rank; ``s0`` the lowest.

    Equal values are dealt out at random: a source that has one of them has it at all times.
    """
    ranks = np.lexsort((generator.random(len(table.rows)), table.rows[:, feature])).argsort()
    return [f"s{rank * 10 // len(ranks)}" for rank in ranks]


def honest(table: Table, package: Package, seed: int) -> Row:
    """Nobody lies, but each source has rows of its own kind; one row a feature."""
    stream = table_stream(table, package, 100)
    out: Row = {}
    for i, feature in enumerate(table.features):
        sources = by_feature(table, i, np.random.default_rng([seed, 17]))
        run = follow(package, stream, sources, stream.labels, seed)
        out[feature] = {
            "served": round(sum(run.served, NOTHING).accuracy, 4),
            "honest_quarantined": len(run.caught),
            "labels_forgotten": sum(rows for _, rows in run.caught.values()),
        }
    return out


def merged(rows: Sequence[Row]) -> Row:
    """One row of several seeds: means of rates, sums of counts, all waits."""
    out: Row = {"seeds": len(rows)}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, float):
            out[name] = round(float(np.mean(values)), 4)
        else:
            out[name] = sum(values, [] if isinstance(first, list) else 0)
    return out


def measured(world: str, kinds: Sequence[str]) -> Iterator[Row]:
    """The rows of one stream, after each seed."""
    rows: dict[str, list[Row]] = {}
    attacks = [attack for attack in ATTACKS if attack.kind in kinds]
    for seed in SEEDS[world]:
        package, stream = WORLDS[world](seed)
        for name, row in poison(package, stream, attacks, seed):
            rows.setdefault(name, []).append(row)
            print(world, seed, name, json.dumps(row), flush=True)
        yield {name: merged(found) for name, found in rows.items()}


def measured_honest() -> Iterator[Row]:
    train, rest = elec()
    yield honest(rest, package_table("elec", train, 42, None), 42)


def main() -> None:
    torch.set_num_threads(1)
    kinds = [name for name in sys.argv[1:] if name in KINDS] or KINDS
    wanted = [name for name in sys.argv[1:] if name not in KINDS] or [*WORLDS, HONEST]
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"command": "make bench-poisoning", "settings": "defaults"}
    with tempfile.TemporaryDirectory() as home:
        use_home(Path(home))
        for world in wanted:
            for found in measured_honest() if world == HONEST else measured(world, kinds):
                results[world] = results.get(world, {}) | found
                RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    update("poisoning")


if __name__ == "__main__":
    main()
