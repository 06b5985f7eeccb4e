"""Runs backtests of several settings and compares them."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import Event
from bento_selfheal.deployment.locations import open_existing
from bento_selfheal.errors import SettingsError, StoreError
from bento_selfheal.inputs.labelled_table import Table
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.scoring.scores import batch_interval
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import ALL_LABELS, LabelPattern
from bento_selfheal.simulation.table import package_table, table_stream

Run = Callable[[Settings], Backtest]


REQUEST_ROWS = 25
"""Rows that are answered before labels can come back: a service answers few at a time."""


def backtest_table(
    table: Table,
    settings: Settings,
    train_fraction: float,
    delay: int,
    seed: int,
    sensitive: Sequence[str] | None,
    tries: Sequence[Settings] = (),
    rules: Sequence[str] = (),
    pattern: LabelPattern = ALL_LABELS,
) -> dict[str, Any]:
    """Train on the first share of a table and stream the rest offline; returns one JSON object.

    Raises:
        SettingsError: A rule is not of the form that `parse_rule` reads, the model lacks a class
            of the pattern, or no row is left to score.
    """
    train, rest = table.split(train_fraction)
    with torch.random.fork_rng(devices=[]):
        package = package_table("backtest", train, seed, sensitive, rules)
        classes = package.info.classes
        pattern.check(classes)

        def run(chosen: Settings) -> Backtest:
            there = open_package(package.tag, chosen.device)
            made = Backtest(there, chosen.model_copy(update={"seed": seed}))
            stream = replace(table_stream(rest, package, delay), batch=REQUEST_ROWS)
            told, late = pattern.labelled(stream, classes), pattern.delays_of(stream, classes)
            reports = made.run(pattern.timed(stream), labelled=told, delays=late)
            # On a terminal only: a pipe must receive nothing but the result.
            console = Console(stderr=True)
            shown = track(
                reports, "batches", len(stream), console=console, transient=True,
                disable=not console.is_terminal,
            )  # fmt: skip
            deque(shown, maxlen=0)
            if not made.labelled:
                raise SettingsError("no row after the training part is of one of its classes")
            return made

        return _side_by_side(run, settings, tries)


def backtest_log(settings: Settings, tries: Sequence[Settings] = ()) -> dict[str, Any]:
    """Replay a store's own log offline; returns one JSON object.

    Raises:
        StoreError: The store has no package or no labels.
    """
    store = open_existing(settings)
    try:
        store.check()
        tag, start = store.meta("package"), store.meta("start")
        if tag is None or start is None:
            raise StoreError("the store has no package yet; deploy one first")
        begin = json.loads(start)

        def run(chosen: Settings) -> Backtest:
            made = Backtest(open_package(tag, chosen.device), chosen)
            made.replay(store, begin["predictions_from"], begin["feedback_from"])
            if not made.labelled:
                raise StoreError("no label in the store's log belongs to a logged prediction")
            return made

        return _side_by_side(run, settings, tries)
    finally:
        store.close()


def _side_by_side(run: Run, settings: Settings, tries: Sequence[Settings]) -> dict[str, Any]:
    """The figures of the settings, and for each try whether it would have been better."""
    base, found = _backtest(run, settings)
    if tries:
        found["tries"] = []
    for chosen in tries:
        other, figures = _backtest(run, chosen)
        gain = batch_interval(_batches(other.correct("champion") - base.correct("champion")))
        before = settings.by_name()
        changed = {name: v for name, v in chosen.by_name().items() if v != before[name]}
        better = {"accuracy": gain.mean, "low": gain.low, "high": gain.high}
        found["tries"].append({"settings": changed, **figures, "better": better})
    return found


def _backtest(run: Run, settings: Settings) -> tuple[Backtest, dict[str, Any]]:
    started = time.perf_counter()
    made = run(settings)
    lift = batch_interval(_batches(made.correct("champion") - made.correct("frozen")))
    scoreboard = made.pipeline.parts.scoreboard
    rules, status = scoreboard.rules.status(), made.pipeline.status()
    labels = {
        "one_sided": status["one_sided"]["reason"],
        "unreported": status["unreported"],
        "review": status["review"]["known"] if settings.review != "all" else "",
    }
    return made, {
        **made.figures(),
        "majority": made.majority,
        "lift": {"accuracy": lift.mean, "low": lift.low, "high": lift.high},
        "promotions": scoreboard.counts.promotions,
        "rollbacks": scoreboard.counts.rollbacks,
        **({"rules": rules} if rules else {}),
        **({"drifts": drifts} if (drifts := drifts_in(made.events)) else {}),
        **({"segments": status["segments"]} if status["segments"] else {}),
        **({"new_classes": made.new_classes} if made.new_classes else {}),
        **{name: told for name, told in labels.items() if told},
        "seconds": time.perf_counter() - started,
    }


def drifts_in(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Every drift that was seen: at which labelled batch, why, and what was told last of its
    causes, as JSON values."""
    out: list[dict[str, Any]] = []
    for event in events:
        if event.kind == "drifting":
            out.append({"batch": event.batch, **event.detail})
        elif event.kind == "drift_explained" and out:
            out[-1]["causes"] = event.detail
    return out


def _batches(gains: NDArray[np.float64], size: int = 100) -> list[float]:
    """Means of batches of rows; the last batch may be shorter."""
    return [float(gains[at : at + size].mean()) for at in range(0, len(gains), size)]
