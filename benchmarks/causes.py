"""Why it drifts: is the right column named first, and the right kind of drift?

    make bench-proof

30 drifts are planted, half of them in the rows (covariate) and half in what they mean (concept), in
columns of numbers and categories, in missing values, in images and texts and in facts beside them.
Each goes through the whole pipeline with default settings, once with each seed, which draws model
and rows: 1,500 rows without drift, then 4,000 with it, labels 100 rows late. What was told last
counts; a run in which no signal sees the drift has named no column.

Rows in which nothing moves say how often something is named wrongly. A drift is said to be there,
by force, after 1,500 rows and every 2,000 from then on, and what is known of it 2,000 rows later
counts. Healing is paused there: it has no part in what is compared.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from causes_worlds import (
    IMAGE_PLANTS,
    TABLE_PLANTS,
    TEXT_PLANTS,
    Labels,
    Plant,
    Rng,
    Rows,
    network_world,
    table,
    table_package,
)

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import Event
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.backtest import Backtest
from bento_selfheal.simulation.streams import Stream

SEEDS, CALM_SEEDS = range(70_000, 70_001), range(80_000, 80_004)
CALM, AFTER, LATE, LONG, FORCED = 1500, 4000, 100, 2000, 10
PARTS = 3
"""Processes that share the plants of a world."""
World = tuple[Package, Callable[[int, Rng, Plant | None], tuple[Rows, Labels]]]
PLANTS = {"table": TABLE_PLANTS, "image": IMAGE_PLANTS, "text": TEXT_PLANTS}
COVARIATE, CONCEPT, BOTH, UNKNOWN = (
    "covariate shift", "concept drift", "covariate shift and concept drift",
    "not enough labels to tell",
)  # fmt: skip


def world(kind: str, seed: int) -> World:
    """A package, and how its rows are drawn."""
    return (table_package(seed), table) if kind == "table" else network_world(kind, seed)


def run(made: World, seed: int, plant: Plant | None) -> tuple[Backtest, list[Event]]:
    """A stream with a plant in it, or with none, through the pipeline; and the events after it."""
    package, rows = made
    draw = np.random.default_rng([seed, 2])
    parts = [rows(CALM, draw, None), rows(AFTER, draw, plant)]
    stream = Stream(*(np.concatenate(both) for both in zip(*parts, strict=True)), LATE)
    out, before = Backtest(package, Settings(seed=seed)), 0
    for number, _ in enumerate(out.run(stream), start=1):
        if number * stream.batch == CALM:
            before = len(out.events)
    return out, out.events[before:]


def one_plant(made: World, seed: int, plant: Plant) -> dict[str, Any]:
    """Whether a plant is named, and what of it: by the last that an operator was told of a drift
    that was seen after it, of a kind that labels had settled where there was any."""
    told = [one for one in told_in(run(made, seed, plant)[1]) if one["rows"]]
    settled = [one for one in told if one["kind"] != UNKNOWN]
    last = next(reversed(settled or told), None)
    first = last["columns"][0] if last else None
    named = first is not None and (first["moved"] or first["meaning_changed"])
    return {
        "plant": f"{plant.change} in {plant.column}",
        "of": plant.of,
        "concept": plant.concept,
        "seen": bool(told),
        "column": bool(named and first["name"] == plant.column),
        "kind": bool(last and last["kind"] == (CONCEPT if plant.concept else COVARIATE)),
        "told": last and last["kind"],
        "first": first["name"] if named else None,
    }


def told_in(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What events say of the causes of drifts that were seen among them."""
    seen = next((i for i, event in enumerate(events) if event.kind == "drifting"), len(events))
    kinds = ("drifting", "drift_explained")
    return [e.detail.get("causes", e.detail) for e in events[seen:] if e.kind in kinds]


def calm_drifts(made: World, seed: int) -> Iterator[dict[str, bool]]:
    """What is known of drifts that are none, and were said to be there."""
    package, rows = made
    draw = np.random.default_rng([seed, 2])
    stream = Stream(*rows(CALM + FORCED * LONG, draw, None), LATE)
    out, forced = Backtest(package, Settings(seed=seed)), False
    out.pipeline.apply_command("pause")
    for number, _ in enumerate(out.run(stream), start=1):
        done = number * stream.batch
        if (done - CALM) % LONG or done < CALM:
            continue
        if forced:
            told = out.parts.drift.causes.status() or {}
            changed = told["kind"] in (CONCEPT, BOTH)
            yield {"moved": told["moved"] > 0, "changed": changed}
        out.parts.drift.begin()
        forced = True


def plants(kind: str, seed: int, part: int) -> list[dict[str, Any]]:
    """A part of the plants of a world."""
    with own_home():
        made = world(kind, seed)
        return [
            {"seed": seed, **one_plant(made, seed, plant)} for plant in PLANTS[kind][part::PARTS]
        ]


def calm(kind: str, seed: int) -> list[dict[str, bool]]:
    """Drifts that are none."""
    with own_home():
        return list(calm_drifts(world(kind, seed), seed))


@contextmanager
def own_home() -> Iterator[None]:
    """A model store of its own."""
    with tempfile.TemporaryDirectory() as home:
        use_home(Path(home))
        yield


def planted_drifts() -> dict[str, Any]:
    """The figures of all runs, as many at once as there are processors."""
    worlds = [(kind, seed, part) for seed in SEEDS for kind in PLANTS for part in range(PARTS)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        asked = [pool.submit(plants, *one) for one in worlds]
        asked_calm = [pool.submit(calm, kind, seed) for seed in CALM_SEEDS for kind in PLANTS]
        for future in as_completed([*asked, *asked_calm]):
            print(future.result(), flush=True)
    found = [one for future in asked for one in future.result()]
    none = [one for future in asked_calm for one in future.result()]
    names = sorted({(one["of"], one["concept"]) for one in found})
    by_kind = {
        f"{of}, {'concept' if concept else 'covariate'}": _shares(
            [one for one in found if (one["of"], one["concept"]) == (of, concept)]
        )
        for of, concept in names
    }
    misses = Counter(
        f"{one['plant']} ({one['of']}): told {one['told'] or 'nothing'}, first {one['first']}"
        for one in found
        if not (one["column"] and one["kind"])
    )
    return {
        "plants": len(found) // len(SEEDS),
        "runs": len(found),
        **_shares(found),
        "by_kind": by_kind,
        "misses": dict(misses.most_common()),
        "calm_drifts": len(none),
        **{f"calm_{name}": sum(one[name] for one in none) / len(none) for name in none[0]},
    }


def _shares(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {
        name: float(np.mean([one[name] for one in runs])) for name in ("seen", "column", "kind")
    }


ROWS: dict[str, Callable[[], dict[str, Any]]] = {"planted drifts": planted_drifts}
