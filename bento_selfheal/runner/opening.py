"""Opens a pipeline: from the last checkpoint, or afresh behind the deployment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import ThresholdFile
from bento_selfheal.core.records import State
from bento_selfheal.deployment.locations import registry_of
from bento_selfheal.errors import CheckpointError, StoreError
from bento_selfheal.healing.champion.memory import MemorySnapshots
from bento_selfheal.healing.checkpoint import dump, package_of, restore
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.runner.erasure.rebuilding import rebuild
from bento_selfheal.runner.operators import follow_commands
from bento_selfheal.runner.thresholds.following import catch_up, note
from bento_selfheal.store import REBUILD, SqlStore
from bento_selfheal.telemetry.spans import Telemetry


class PipelineOpener:
    """Opens the pipeline of a leader.

    Args:
        store: Where the checkpoint is.
        settings: The service's settings.
        thresholds: The watched ``threshold_config.json``.
        telemetry: Where spans go.
        announce: Told of a state that begins in the middle of a step.
        rest: Rests for some seconds; true where the runner is to stop, or leads no more.
    """

    def __init__(
        self,
        store: SqlStore,
        settings: Settings,
        thresholds: ThresholdFile,
        telemetry: Telemetry,
        announce: Callable[[State], None],
        rest: Callable[[float], bool],
    ) -> None:
        self._store = store
        self._settings = settings
        self._thresholds = thresholds
        self._telemetry = telemetry
        self._announce = announce
        self._rest = rest

    def open(self) -> Pipeline:
        """A pipeline where the last one stopped, or a fresh one behind the deployment.

        Raises:
            StoreError: Nothing was deployed, or the store is out of reach.
            NewerRelease: A newer release wrote the checkpoint.
            PackageError: The package is damaged.
            bentoml.exceptions.NotFound: The package is not in this model store.
        """
        tag, start = self._store.meta("package"), self._store.meta("start")
        if tag is None or start is None:
            raise StoreError("the store has no package yet; deploy one first")
        self._thresholds.refresh()
        changed_by = catch_up(self._store, self._thresholds)
        pipeline = self._new(tag)
        blob, rebuilt, began = self._store.state(), False, time.time()
        try:
            if blob is not None and package_of(blob) == tag:
                restore(pipeline.parts, blob)
            elif rebuilt := self._was_erased(json.loads(start)):
                self._rebuild(pipeline, json.loads(start))
            else:
                _begin(pipeline, json.loads(start))
        except CheckpointError as error:
            pipeline = self._new(tag)
            self._begin_anew(pipeline, json.loads(start), str(error))
        registry = registry_of(pipeline.parts.package, self._store, self._settings)
        # Steps of before an erasure can be written no more, and what they made may be of the row.
        registry.prune({s.tag for s in self._store.snapshots()}, began if rebuilt else 0.0)
        before = self._store.status().get("thresholds")
        if before and before != self._thresholds.current.model_dump():
            note(pipeline, before, *changed_by)  # while nothing ran, or on another machine
        return pipeline

    def _new(self, tag: str) -> Pipeline:
        package = open_package(tag, self._settings.device)
        return Pipeline(
            package,
            self._settings,
            registry_of(package, self._store, self._settings),
            thresholds=self._thresholds.current,
            telemetry=self._telemetry,
            announce=self._announce,
        )

    def _was_erased(self, start: dict[str, Any]) -> bool:
        """Whether the checkpoint is missing because of a row that the package had to do with."""
        upto = json.loads(self._store.meta(REBUILD) or "{}")
        places = ("predictions", "predictions_from"), ("labels", "feedback_from")
        return bool(upto) and any(upto[name] > start[begin] for name, begin in places)

    def _rebuild(self, pipeline: Pipeline, start: dict[str, Any]) -> None:
        """Take up what a pipeline comes to that reads the logs again, and tells nobody."""
        package = pipeline.parts.package
        registry = registry_of(package, self._store, self._settings)
        memory = MemorySnapshots(package, registry)
        quiet = Pipeline(
            package, self._settings, memory,
            thresholds=self._thresholds.current, telemetry=Telemetry(),
        )  # fmt: skip
        _begin(quiet, start)
        rebuild(quiet, memory, self._store, self._settings.heal_share, self._rest)
        restore(pipeline.parts, dump(quiet.parts))
        pipeline.journal.outcome = quiet.collect()

    def _begin_anew(self, pipeline: Pipeline, start: dict[str, Any], why: str) -> None:
        """Go on behind what is logged, where no checkpoint tells what was learned from it.

        What the store knows stays: what serves, the snapshots, and operators' commands.
        """
        _begin(pipeline, start)
        pipeline.parts.cursors.predictions, pipeline.parts.cursors.feedback, _ = self._store.ends()
        pipeline.parts.batches.selection.begin_anew()
        shown = self._store.status().get("unreported") or {}
        pipeline.parts.batches.maturity.take_up(shown, pipeline.parts.cursors.predictions)
        kept = self._store.snapshots()
        pipeline.parts.history.take_up(kept, next_version=self._store.newest_version() + 1)
        pipeline.parts.scoreboard.counts.heals = max((s.heal for s in kept), default=0)
        follow_commands(pipeline, self._store, heal=False)
        pipeline.collect()  # the events of those commands were noted when they came
        pipeline.journal.note("begun_anew", {"reason": why, **pipeline.status()["cursors"]})


def _begin(pipeline: Pipeline, start: dict[str, Any]) -> None:
    """Put a fresh pipeline behind the deployment."""
    pipeline.parts.cursors.start_from = pipeline.parts.cursors.predictions = start[
        "predictions_from"
    ]
    pipeline.parts.cursors.feedback = start["feedback_from"]
    pipeline.parts.cursors.commands = start["commands_from"]
    pipeline.parts.history.next_version = start["next_version"]
