"""The healing runner: one leader reads both logs, steps the pipeline, and writes its decisions."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bentoml.exceptions import BentoMLException

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import ThresholdFile
from bento_selfheal.core.periodic import PeriodicThread, ThreadState
from bento_selfheal.core.records import Event, Snapshot, State
from bento_selfheal.deployment.locations import open_store, registry_of, state_dir
from bento_selfheal.errors import LeaseLost, NewerRelease, PackageError, PromotionMoved
from bento_selfheal.healing.checkpoint import dump
from bento_selfheal.healing.journal import Outcome
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.runner.candidates.judging import CandidateJudge
from bento_selfheal.runner.erasure.leftovers import Leftovers
from bento_selfheal.runner.lease import Lease
from bento_selfheal.runner.opening import PipelineOpener
from bento_selfheal.runner.operators import follow_operators
from bento_selfheal.runner.pacing import Pace, rest_seconds
from bento_selfheal.runner.reading import LogReader
from bento_selfheal.runner.retrain_export import export_buffer, remove_export
from bento_selfheal.runner.status_board import StatusBoard
from bento_selfheal.runner.tasks.tasks import Tasks
from bento_selfheal.store import StepRecord
from bento_selfheal.telemetry.spans import Telemetry, within

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
EXPORTS = "exports"
EXPORTING = ("retrain_needed", "rebuilt")
"""Kinds of events that carry where the labelled rows lie."""
LOUD = ("refused", "begun_anew")
"""Kinds of events that the log shows as errors."""


class Runner:
    """Works while it holds the lease. Every step is written whole or not at all.

    Args:
        settings: The service's settings; the store must be prepared.
        telemetry: Where spans go.
        pace: How far the process stands back; by default not at all.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, pace: Pace | None = None) -> None:
        self._settings = settings
        self.store = open_store(settings)
        self.thresholds = ThresholdFile(state_dir(settings) / "threshold_config.json")
        self.lease = Lease(self.store, settings.lease_seconds)
        self._opener = PipelineOpener(
            self.store, settings, self.thresholds, telemetry, self._announce, self._rest
        )
        self._leftovers = Leftovers(self.store, state_dir(settings) / EXPORTS)
        self._reader = LogReader(self.store)
        self._judge = CandidateJudge(self.store, settings)
        beat = settings.lease_seconds / 3
        self._loop = PeriodicThread(
            "selfheal-runner", self._work, settings.tuning.poll_interval, at_once=True
        )
        self._heart = PeriodicThread("selfheal-lease", self._beat, beat, longest_retry=beat)
        token, self._pace = self._leads_with, pace or Pace(0)
        self._tasks = Tasks(self.store, settings, state_dir(settings), token)
        self._board = StatusBoard(self.store, token, self.threads, self._others)
        self._pipeline: Pipeline | None = None
        self._written_point = ""

    def _others(self) -> dict[str, Any]:
        return {**self._tasks.shown(), "cpu": self._pace.state()}

    def start(self) -> None:
        """Begin to work, in threads."""
        self._loop.start()
        self._heart.start()
        self._tasks.start()

    def stop(self) -> None:
        """Finish the step in hand and let a successor lead at once."""
        self._tasks.stop()
        self._loop.stop(STOP_SECONDS)
        self._heart.stop()
        self.lease.release()
        self.store.close()

    @property
    def owner(self) -> str:
        """The name under which this runner holds the lease."""
        return self.lease.owner

    @property
    def alive(self) -> bool:
        """Whether every thread of the runner runs."""
        return all(thread["alive"] for thread in self.threads())

    def threads(self) -> list[ThreadState]:
        """State of each thread of the runner."""
        return [self._loop.state(), self._heart.state(), *self._tasks.threads()]

    @property
    def status(self) -> dict[str, Any]:
        """What the runner last wrote, with its threads as they are now; empty before that."""
        return self._board.current()

    def _rest(self, seconds: float) -> bool:
        """Rest inside a step; true where it is to end."""
        return self._loop.pause(seconds) or not self.lease.held

    def _leads_with(self) -> int | None:
        return self.lease.token

    def _work(self) -> float:
        """One step, and the seconds to rest after it."""
        self._reader.heal_seconds, began = 0.0, time.thread_time()
        try:
            worked = self.step()
        except (LeaseLost, PromotionMoved) as error:
            log.info("step given up: %s", error)
            return 0.0
        except Exception as error:
            self._board.step_failed(error)
            raise
        self._board.step_passed()
        self._pace.works(self.lease.owner, worked)
        if not worked:
            return self._settings.tuning.poll_interval
        healing = self._reader.heal_seconds
        reading = max(time.thread_time() - began - healing, self._reader.write_seconds)
        share, behind = self._settings.heal_share, self._reader.behind
        return rest_seconds(reading, healing, share, behind=behind)

    def _beat(self) -> None:
        """Renew the lease beside a long heal, see whether the processor time is enough, and show
        what became of the threads."""
        if not self._loop.alive:
            self.lease.release()  # another runner must be able to lead
            return
        self.lease.renew()
        self._pace.keep()
        self._board.show_threads()

    def step(self) -> bool:
        """Read both logs, decide, and write once; False when there was nothing to do.

        Raises:
            LeaseLost: Another runner leads.
            PromotionMoved: An operator's promotion came first.
            StoreError: The store is out of reach.
        """
        if self._leftovers.remove():
            self.lease.forget()  # it was taken: what this runner knows holds the row
        if not self.lease.held:
            self._pipeline = None
            if not self.lease.acquire():
                return False
        # A step that fails leaves no pipeline behind: its state is ahead of the store's.
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None or pipeline.parts.package.tag != self.store.meta("package"):
            pipeline = self._open_or_yield()
        try:
            opened = bool(pipeline.journal.outcome.events)
            changed = follow_operators(pipeline, self.store, self.thresholds) or opened
            worked = self._reader.read(pipeline)
            compared, moves = self._judge.judge(pipeline)
            if changed or worked or compared:
                began = time.monotonic()
                self._write(pipeline)
                self._reader.write_seconds = time.monotonic() - began
            self._judge.carry_out(pipeline, moves)
        except LeaseLost:
            self.lease.forget()
            raise
        self._pipeline = pipeline
        return worked

    def _open_or_yield(self) -> Pipeline:
        """A pipeline. Where this replica lacks the package, or is too old for the checkpoint,
        another one gets to lead."""
        try:
            pipeline = self._opener.open()
        except (PackageError, NewerRelease, BentoMLException):
            self.lease.release()
            self._loop.pause(self._settings.lease_seconds)
            raise
        self._reader.forget_ahead()  # some of it may have been erased
        self._board.wrote(self.store.status())
        self._tasks.serve(pipeline.parts.package)
        return pipeline

    def _write(self, pipeline: Pipeline) -> None:
        token = self.lease.require()
        outcome = pipeline.collect()
        exported = self._export(pipeline, outcome)
        surplus = pipeline.surplus()
        status = self._board.with_own(self._status(pipeline))
        point = _operating_point(pipeline)
        record = StepRecord(
            state=dump(pipeline.parts),
            status=status,
            snapshots=list(outcome.snapshots.values()),
            dropped=[s.version for s in surplus],
            promotions=outcome.promotions,
            after_promotion=pipeline.parts.cursors.promotions,
            events=outcome.events,
            measurements=outcome.measurements,
            asked=outcome.asked,
            asked_anew=outcome.asked_anew,
            operating_point=point if point != self._written_point else "",
        )
        try:
            with self._board.writing(status):
                pipeline.parts.cursors.promotions = self.store.commit(token, record)
        except Exception:
            remove_export(exported)  # it may hold a row that was erased meanwhile
            raise
        self._written_point = point
        self._after_write(pipeline, outcome, surplus)

    def _export(self, pipeline: Pipeline, outcome: Outcome) -> dict[str, Any]:
        """Write what a retrain needs before the event that says where it lies; empty where none is
        asked for."""
        if not outcome.export:
            return {}
        facts = export_buffer(state_dir(self._settings) / EXPORTS, pipeline)
        outcome.events = [
            replace(e, detail={**e.detail, **facts}) if e.kind in EXPORTING else e
            for e in outcome.events
        ]
        return facts

    def _after_write(
        self, pipeline: Pipeline, outcome: Outcome, surplus: Sequence[Snapshot]
    ) -> None:
        """Do what may follow only once the step is in the store."""
        if surplus:  # asking the store whose they are after each step would be a read for nothing
            registry = registry_of(pipeline.parts.package, self.store, self._settings)
            for snapshot in surplus:
                registry.delete(snapshot.tag)
        for event, trace in zip(outcome.events, outcome.traces, strict=True):
            with within(trace):
                _log_event(event)

    def _announce(self, state: State) -> None:
        """Show a heal that begins; the page would otherwise never see it.

        The figures stay those of the last step that was written: this one may yet be given up.
        """
        self._board.show(state=state.value)

    def _status(self, pipeline: Pipeline) -> dict[str, Any]:
        requests, labels, _ = self.store.ends()
        unread = {
            "requests": requests - pipeline.parts.cursors.predictions,
            "labels": labels - pipeline.parts.cursors.feedback,
        }
        return {
            **pipeline.status(), "unread": unread, "time": time.time(), "runner": self.lease.owner,
            "candidates": self._judge.figures,
        }  # fmt: skip


def _operating_point(pipeline: Pipeline) -> str:
    """The operating point with the snapshot version that it belongs to, as JSON."""
    version = pipeline.parts.lineage.serving_version or None
    return json.dumps({**pipeline.parts.policy.point.as_dict(), "version": version})


def _log_event(event: Event) -> None:
    level = logging.ERROR if event.kind in LOUD else logging.INFO
    log.log(level, "%s at batch %d: %s", event.kind, event.batch, json.dumps(event.detail))
