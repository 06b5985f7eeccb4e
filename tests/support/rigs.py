"""A pipeline without a store: what it takes in, what it decided, and a stream that it serves."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import (
    FeedbackRecord,
    NewSnapshot,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
    Snapshot,
    State,
)
from bento_selfheal.errors import SnapshotError
from bento_selfheal.healing.checkpoint import dump, restore
from bento_selfheal.healing.journal import Outcome
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.model import SelfHealingModel
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.telemetry.spans import Telemetry

BATCH = 50
Entry = tuple[PredictionRecord | FeedbackRecord, PredictionRecord | None]


class Memory:
    """Snapshots in memory; some may be damaged on purpose."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.damaged: set[str] = set()

    def save(self, new: NewSnapshot, state: Mapping[str, Tensor]) -> Snapshot:
        if not all(bool(torch.isfinite(v).all()) for v in state.values()):
            raise SnapshotError(f"version {new.version} is not finite")
        tag = f"m:{new.version}"
        self.kept[tag] = {k: v.clone() for k, v in state.items()}
        return Snapshot(new.version, tag, new.phase, "ab", new.heal, new.batch, new.reason, 0.0)

    def repeat(self, new: NewSnapshot, snapshot: Snapshot) -> Snapshot:
        if snapshot.tag in self.damaged:
            raise SnapshotError(f"{snapshot.tag} is damaged")
        return self.save(new, self.kept[snapshot.tag])

    def load(self, tag: str, sha256: str) -> SelfHealingModel:
        if tag in self.damaged:
            raise SnapshotError(f"{tag} is damaged")
        return self.package.with_adapter(self.kept[tag]).requires_grad_(False)

    def bits(self) -> dict[str, dict[str, bytes]]:
        """Every adapter ever saved, to the bit."""
        return {tag: bits(state) for tag, state in self.kept.items()}


def bits(state: Mapping[str, Tensor]) -> dict[str, bytes]:
    """A state's tensors, to the bit."""
    return {name: value.numpy().tobytes() for name, value in state.items()}


def settings_of(**more: Any) -> Settings:
    """Settings of small batches, so that heals are short; a retraining is far away."""
    small = {"batch_size": BATCH, "replay_rate": 0.01, "buffer_rows": 400, "retrain_batches": 1000}
    return Settings(**{**small, **more})


class Rig:
    """A pipeline with its snapshots and everything that it decided so far."""

    def __init__(
        self,
        package: Package,
        memory: Memory | None = None,
        *,
        thresholds: Thresholds | None = None,
        adopt: bool = True,
        **more: Any,
    ) -> None:
        self.package, self.given = package, {"thresholds": thresholds, **more}
        self.memory = memory or Memory(package)
        self.announced: list[State] = []
        self.pipeline = Pipeline(
            package, settings_of(**more), self.memory, thresholds=thresholds or Thresholds(),
            telemetry=Telemetry(), announce=self.announced.append,
        )  # fmt: skip
        self.done = Outcome()
        if adopt:
            clean = self.memory.save(
                NewSnapshot(1, Phase.CLEAN, heal=0, batch=0, reason="packaged"),
                package.model.adapter_state(),
            )
            self.pipeline.adopt(
                Promotion(PromotionKind.INITIAL, 1, clean.tag, "ab", "packaged", 0.0, seq=1)
            )

    def copy(self) -> Rig:
        """Another rig where this one is, from a checkpoint; neither changes the other."""
        memory = Memory(self.package)
        memory.kept, memory.damaged = dict(self.memory.kept), set(self.memory.damaged)
        other = Rig(self.package, memory, adopt=False, **self.given)
        restore(other.pipeline.parts, dump(self.pipeline.parts))
        other.done, other.announced = deepcopy(self.done), list(self.announced)
        return other

    def take(self, entry: Entry) -> None:
        self.pipeline.consume(*entry)
        self.collect()

    def collect(self) -> None:
        new = self.pipeline.collect()
        self.done.snapshots |= new.snapshots
        self.done.promotions += new.promotions
        self.done.events += new.events
        self.done.measurements += new.measurements

    def kinds(self) -> list[str]:
        return [e.kind for e in self.done.events]

    def decided(self) -> list[tuple[Any, ...]]:
        """All promotions, without their times."""
        return [(p.kind, p.version, p.tag, p.reason, p.evidence) for p in self.done.promotions]

    def moves(self) -> list[Promotion]:
        """The promotions, without those that only tell what the newest rows are like."""
        return [p for p in self.done.promotions if p.kind is not PromotionKind.REFRESH]

    def status(self) -> dict[str, Any]:
        return self.pipeline.status()


class Live:
    """Serves a stream with a rig's champion, gives late labels, and keeps the log."""

    def __init__(self, rig: Rig, delay: int = BATCH) -> None:
        self.rig, self.delay = rig, delay
        self.log: list[Entry] = []
        self.requests = self.labels = 0
        self.owed: list[tuple[PredictionRecord, int, int]] = []
        self.pace = 1.0
        """Seconds from one request to the next."""

    def copy(self) -> Live:
        """Another stream where this one is; neither changes the other."""
        other = Live(self.rig.copy(), self.delay)
        other.log, other.owed = list(self.log), list(self.owed)
        other.requests, other.labels, other.pace = self.requests, self.labels, self.pace
        return other

    def send(self, rows: NDArray[np.float32], labels: NDArray[Any]) -> None:
        for at in range(0, len(rows), BATCH):
            self._batch(rows[at : at + BATCH], labels[at : at + BATCH])

    def _batch(self, rows: NDArray[np.float32], labels: NDArray[Any]) -> None:
        self.requests += 1
        p = self.rig.pipeline
        request = self.requests.to_bytes(12, "big")
        model, version = p.parts.lineage.answering(request)
        with torch.no_grad():
            answers = model(torch.from_numpy(rows)).numpy()
        asked = PredictionRecord(
            request, rows, answers, version, self.requests * self.pace, self.requests
        )
        self._take(asked, None)
        self.owed += [(asked, i, int(label)) for i, label in enumerate(labels)]
        while len(self.owed) > self.delay:
            self.label(*self.owed.pop(0))

    def label(self, asked: PredictionRecord, row: int, label: int, **more: Any) -> None:
        self.labels += 1
        given = FeedbackRecord(asked.request, row, label, self.requests * self.pace,
                               after=self.requests, seq=self.labels, **more)  # fmt: skip
        self._take(given, asked)

    def _take(self, entry: PredictionRecord | FeedbackRecord, asked: PredictionRecord | None) -> (
        None
    ):  # fmt: skip
        self.log.append((entry, asked))
        self.rig.take((entry, asked))


def drifting(seed: int = 0, clean: int = 300, drifted: int = 700, drift: float = 2.2) -> tuple[
    NDArray[np.float32], NDArray[Any]
]:  # fmt: skip
    """The article's stream: clean rows, then drifted ones."""
    generator = np.random.default_rng([seed, 9])
    parts = [article_rows(clean, 0.0, generator), article_rows(drifted, drift, generator)]
    return (np.concatenate([t.rows for t in parts]), np.concatenate([t.labels for t in parts]))


served: dict[str, Live] = {}


def live(package: Package, **more: Any) -> Live:
    """A whole drifting stream, served; under the same settings it is served once and copied."""
    key = f"{package.tag} {sorted(more.items())}"
    if key not in served:
        served[key] = Live(Rig(package, **more))
        served[key].send(*drifting())
    return served[key].copy()


def taken_back(ran: Live) -> None:
    """Hold healing back and let the drift pass, so that the line is taken back."""
    pipeline = ran.rig.pipeline
    extend = pipeline.parts.buffer.extend
    pipeline.healer.heal = lambda _, batch: extend(list(batch.rows))  # type: ignore[method-assign]
    pipeline.healer.try_challenger = lambda *_: None  # type: ignore[method-assign]
    ran.send(*drifting(seed=5, clean=3000, drifted=0))


def feed(rig: Rig, n: int = BATCH + 10) -> tuple[PredictionRecord, list[int]]:
    """One request with labels for all its rows; the last 10 still wait for their batch."""
    table = article_rows(n, 0.0, np.random.default_rng(3))
    answers = rig.pipeline.parts.package.baseline(table.rows)
    asked = PredictionRecord(b"k" * 12, table.rows, answers, 1, 1.0, 1)
    rig.take((asked, None))
    labels = [int(v) for v in table.labels]
    for i, label in enumerate(labels):
        rig.take((FeedbackRecord(asked.request, i, label, 2.0, after=1, seq=i + 1), asked))
    return asked, labels


def correct(rig: Rig, asked: PredictionRecord, row: int, label: int) -> None:
    """Correct one label of a request."""
    given = FeedbackRecord(asked.request, row, label, 3.0, corrects=True, after=1, seq=900 + row)
    rig.take((given, asked))
