"""The data of exports, plots and the report: a period of a store, or the experiment."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import Event, Measurement, Phase, Promotion, Snapshot, best_healed
from bento_selfheal.deployment.locations import open_existing
from bento_selfheal.errors import SettingsError, StoreError
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.scores import Scores, telling_figures
from bento_selfheal.simulation.article_results import ExperimentResult
from bento_selfheal.store import SqlStore

MOST = 100_000
"""Readings of the signals in one export; of more than that, every n-th."""
PAGE = 10_000
"""Rows to read at once."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LIMITS = ("fidi_threshold", "conflict_min")
METRICS = ("accuracy", "precision", "recall", "f1")
COUNTS = ("tp", "tn", "fp", "fn")
Entry = TypeVar("Entry", Event, Promotion)


@dataclass(frozen=True)
class ReportData:
    """Figures, events and snapshots of a data, oldest first, as JSON values.

    Attributes:
        title: The package or the experiment that it shows.
        batches: One row per labelled batch: time, state, signals, champion, shadow, lift, action.
        signals: One row per reading of the signals, with or without labels.
        events: What happened; each with its kind, detail, time and batch.
        promotions: What served when, and why.
        snapshots: Version, phase, batch and figures on labels that came after its training.
        stages: Accuracy, precision, recall and F1 by stage, in order.
        thresholds: The thresholds that operators may set.
        limits: The readings from which signals request a heal.
        best: Version of the best post-heal snapshot among them.
        recalls: Of more than two classes, by class: how many of its rows in the reference set the
            model answered right when it was packaged. Empty for two.
    """

    title: str
    batches: list[dict[str, Any]]
    signals: list[dict[str, Any]]
    events: list[dict[str, Any]]
    promotions: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]
    stages: dict[str, dict[str, float]]
    thresholds: dict[str, Any]
    limits: dict[str, float]
    best: int | None = None
    recalls: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The figures of a stage that say something of these classes."""
        return METRICS[:1] if self.recalls else METRICS


def read_store(settings: Settings, since: float = 0.0, until: float = 0.0) -> ReportData:
    """What a store holds of a data.

    Args:
        settings: Which store, and which thresholds are in force.
        since: Seconds since the epoch.
        until: The same; 0 for now.

    Raises:
        StoreError: There is no such store, or it has no package.
    """
    store = open_existing(settings)
    try:
        store.check()
        return _read(store, settings, since, until or time.time())
    finally:
        store.close()


def _read(store: SqlStore, settings: Settings, since: float, until: float) -> ReportData:
    tag = store.meta("package")
    if tag is None:
        raise StoreError("the store has no package yet; deploy one first")
    within = [m for m in store.measurements(since, limit=MOST) if m.time <= until]
    scored = [_row(m) for m in store.measurements(since, scored_only=True) if m.time <= until]
    snapshots = [s for s in _snapshots(store) if since <= s.time <= until]
    status, package = store.status(), open_package(tag)
    best = best_healed(snapshots, telling_figures(len(package.info.classes))[0])
    return ReportData(
        title=tag,
        batches=scored,
        signals=[_row(m) for m in within],
        events=[asdict(e) for e in _all(store.events) if since <= e.time <= until],
        promotions=[asdict(p) for p in _all(store.promotions) if since <= p.time <= until],
        snapshots=[asdict(s) for s in snapshots],
        stages=_stages(package, status, scored),
        thresholds=status["thresholds"],
        limits={name: status["signals"][name] for name in LIMITS},
        best=best.version if best else None,
        recalls={} if package.binary else package.recalls(),
    )  # fmt: skip


def _row(m: Measurement) -> dict[str, Any]:
    return {"time": m.time, "batch": m.labelled_batch if m.scored else m.batch, **m.figures}


def _all(read: Callable[..., list[Entry]]) -> Iterator[Entry]:
    """Every entry of a log, oldest first, read in pages."""
    place = 0
    while page := read(after=place, limit=PAGE):
        yield from page
        place = page[-1].seq


def _snapshots(store: SqlStore) -> Iterator[Snapshot]:
    """Every snapshot that the store knows, kept or dropped, oldest first, read in pages."""
    version = 0
    while page := store.snapshots(kept_only=False, after=version, limit=PAGE):
        yield from page
        version = page[-1].version


def _stages(
    package: Package, status: dict[str, Any], scored: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Scores of the package on its reference set, then of shadow, champion and recent champion."""
    clean = Scores.of(package.baseline(package.reference_rows), package.reference_labels)
    stages = {"clean (reference set)": clean.as_dict()}
    for name, title in (("shadow", "frozen shadow"), ("champion", "served")):
        scores = Scores(**{count: status[name][count] for count in COUNTS})
        if scores.rows:
            stages[title] = scores.as_dict()
    late = scored[-10:]
    if late:
        stages["served, last 10 batches"] = {
            name: sum(row[name] for row in late) / len(late) for name in METRICS
        }
    return stages


def read_experiment(result: ExperimentResult) -> ReportData:
    """The article's run, batch by batch."""
    log = [{**row.__dict__, "state": row.state.value} for row in result.log]
    batches = [
        {**{k: v for k, v in row.items() if k != "shadow"}, "shadow_accuracy": row["shadow"]}
        for row in log
    ]
    facts, best, s = result.as_dict(), result.best_snapshot, result.settings
    return ReportData(
        title=f"the article's experiment, drift {s.drift_strength}, seed {s.seed}",
        batches=batches,
        signals=batches,
        events=[
            {"kind": word, "batch": row["batch"], "detail": {"lift": row["lift"], "z": row["z"]}}
            for row in log
            for word in row["action"].split()
        ],
        promotions=[],
        snapshots=[{**row, "phase": Phase(row["phase"]).value} for row in facts["registry"]],
        stages=facts["stages"],
        thresholds=s.thresholds.model_dump(include={"rollback_f1_drop", "rollback_acc_drop"}),
        limits={name: getattr(s, name) for name in LIMITS},
        best=best.version if best else None,
    )


def moment(text: str, name: str) -> float:
    """Seconds since the epoch, from ``24h``, ``7d`` or an ISO date and time.

    Raises:
        SettingsError: It is neither.
    """
    if found := re.fullmatch(r"(\d+)([smhdw])", text):
        return time.time() - int(found[1]) * UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise SettingsError(
            f"{name}: {text!r} is neither a length such as 24h or 7d nor an ISO date and time"
        ) from error
