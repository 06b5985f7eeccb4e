"""Builds the state of healing anew from the logs, after a row was erased from them.

A pipeline reads both logs again from where its package was deployed, or from where retention has
left them. So whatever it knows, it knows from rows that are still there: it is, to the bit, what a
pipeline has become that never saw the row. Nothing that it would promote meanwhile serves: its
snapshots stay in memory. Then it serves what the promotion log says, and its line has to prove
itself against that.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable

from bento_selfheal.core.records import Phase, Promotion, PromotionKind
from bento_selfheal.core.review.asked_row import AskedRow
from bento_selfheal.errors import LeaseLost, SnapshotError, StoreError
from bento_selfheal.healing.champion.memory import MemorySnapshots
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.runner.operators import follow_commands
from bento_selfheal.runner.pacing import rest_seconds
from bento_selfheal.runner.reading import LogReader
from bento_selfheal.store import REBUILD, SqlStore
from bento_selfheal.store.labels.asked import MOST_WAITING


def rebuild(
    pipeline: Pipeline,
    memory: MemorySnapshots,
    store: SqlStore,
    heal_share: float,
    rest: Callable[[float], bool],
) -> None:
    """Bring a fresh pipeline to where the logs stood at the newest erasure, and note that.

    Args:
        pipeline: Stands behind its deployment, and tells nobody what it decides.
        memory: Where it keeps its snapshots.
        store: Where the logs are.
        heal_share: Share of one core that heals may take on average.
        rest: Rests for some seconds; true, at once, where this runner is to stop or leads no more.

    Raises:
        LeaseLost: Another runner begins.
        StoreError: The store is out of reach.
    """
    began = time.monotonic()
    upto = json.loads(store.meta(REBUILD) or "{}")
    pipeline.adopt(_initial(store))
    reader, cursors = LogReader(store), pipeline.parts.cursors
    asked: deque[AskedRow] = deque(maxlen=MOST_WAITING)
    while cursors.predictions < upto["predictions"] or cursors.feedback < upto["labels"]:
        reader.heal_seconds, at = 0.0, time.thread_time()
        read = reader.read(pipeline)
        follow_commands(
            pipeline, store, upto["commands"], until=pipeline.parts.batches.maturity.places.time
        )
        asked += _drop(pipeline, memory)
        reading = time.thread_time() - at - reader.heal_seconds
        if rest(rest_seconds(reading, reader.heal_seconds, heal_share)):
            raise LeaseLost("the lease ran out while the state was built anew")
        if not read:  # what is left was deleted: the newest labels were the row's
            break
    follow_commands(pipeline, store, upto["commands"])  # newer ones are yet to be told of
    asked += _drop(pipeline, memory)
    _serve(pipeline, store)
    pipeline.collect()
    # The chances of the rows that wait were those of another challenger.
    pipeline.journal.outcome.asked, pipeline.journal.outcome.asked_anew = list(asked), True
    pipeline.journal.outcome.export = bool(pipeline.parts.scoreboard.advice.retrain)
    seconds = round(time.monotonic() - began, 3)
    pipeline.journal.note("rebuilt", {**pipeline.status()["cursors"], "seconds": seconds})


def _initial(store: SqlStore) -> Promotion:
    """The promotion that the package began with."""
    clean = next((s for s in store.snapshots() if s.phase is Phase.CLEAN), None)
    if clean is None:
        raise StoreError("the store keeps no packaged model; deploy one first")
    return Promotion(
        PromotionKind.INITIAL, clean.version, clean.tag, clean.sha256, clean.reason, clean.time
    )


def _drop(pipeline: Pipeline, memory: MemorySnapshots) -> list[AskedRow]:
    """Let go of what was decided, which nobody is told, and of snapshots over the bound; the rows
    whose labels people would be asked for."""
    asked = pipeline.collect().asked
    for snapshot in pipeline.surplus():
        memory.delete(snapshot.tag)
    return asked


def _serve(pipeline: Pipeline, store: SqlStore) -> None:
    """Serve what the promotion log says; the snapshots known are those of the store."""
    kept, newest = store.snapshots(), store.newest_promotion()
    pipeline.parts.history.take_up(kept, next_version=store.newest_version() + 1)
    if newest is None:
        return
    try:
        pipeline.adopt(newest, keep_line=True)
    except SnapshotError:
        pipeline.fall_back(store.servable(), newest.seq)
