"""What sources that lie cost: served accuracy, time to quarantine, what was forgotten.

    make bench-poisoning [row ...]

Ten sources label at random; 1, 3 or 5 of them lie. Writes benchmarks/results/poisoning.json, row
by row. One process, one thread.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import numpy as np
import torch
from numpy.typing import NDArray
from readme import update
from worlds import article_stream, elec, ten_sources

from bento_selfheal.backtest import Backtest
from bento_selfheal.config import Settings
from bento_selfheal.drive import Stream
from bento_selfheal.metrics import Scores
from bento_selfheal.modelstore import use_home
from bento_selfheal.package import Package
from bento_selfheal.show import package_demo, package_table, table_stream

RESULTS = Path(__file__).parent / "results" / "poisoning.json"
SEEDS = (42, 0, 1)
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


def follow(
    package: Package, stream: Stream, sources: list[str], told: Labels, settings: Settings
) -> Row:
    """One run: what was served, who was quarantined in which batch, what was forgotten."""
    run = Backtest(package, settings)
    reports = list(run.run(stream, sources=sources, told=told))
    caught = [e for e in run.events if e.kind == "quarantine"]
    return {
        "served": [r.champion for r in reports],
        "frozen": sum((r.shadow for r in reports), Scores(0, 0, 0, 0)),
        "quarantined": {e.detail["source"]: e.detail["rows"] for e in caught},
        "given": {e.detail["source"]: e.detail["labels"] for e in caught},
        "promotions": run.pipeline.tally.promotions,
        "rollbacks": run.pipeline.tally.rollbacks,
    }
