"""The healing runner: one leader reads both logs, thinks, and writes what it decided."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from typing import Any

from bentoml.exceptions import BentoMLException

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import ThresholdFile
from bento_selfheal.core.records import (
    Command,
    Event,
    FeedbackRecord,
    PredictionRecord,
    Promotion,
    State,
)
from bento_selfheal.core.transitions import forward
from bento_selfheal.deployment.locations import open_store, registry_of, state_dir
from bento_selfheal.errors import (
    CheckpointError,
    LeaseLost,
    NewerRelease,
    PackageError,
    PromotionMoved,
    SelfHealError,
    SnapshotError,
    StoreError,
)
from bento_selfheal.healing.checkpoint import dump, package_of, restore
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.runner.retention import Retention
from bento_selfheal.runner.retrain_export import write_labelled
from bento_selfheal.store import StepRecord
from bento_selfheal.telemetry.spans import Telemetry, within

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
READ_REQUESTS = 256
READ_WRITES = 4.0
"""A runner that is behind reads on, so many times as long as its last checkpoint took to write."""
MOST_READ_SECONDS = 2.0
"""So long at most: operators wait meanwhile."""
READ_SHARE = 0.5
"""Share of one core that reading the log may take on average."""


class Runner:
    """Leads when it holds the lease; every step is written whole or not at all.

    Args:
        settings: The service's settings; the store must be prepared.
        telemetry: Where spans go.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self.store = open_store(settings)
        self.thresholds = ThresholdFile(state_dir(settings) / "threshold_config.json")
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="selfheal-runner", daemon=True)
        self._keeper = Retention(self.store, settings)
        self._heart = threading.Thread(target=self._beat, name="selfheal-lease", daemon=True)
        self._token: int | None = None
        self._pipeline: Pipeline | None = None
        self._told = ""
        self._write_seconds = self._healing = 0.0
        self.status: dict[str, Any] = {}

    def start(self) -> None:
        """Begin to work, in a thread of its own."""
        self._thread.start()
        self._heart.start()
        self._keeper.start(lambda: self._token is not None)

    def stop(self) -> None:
        """Finish the step in hand and let a successor lead at once."""
        self._stop.set()
        self._keeper.stop()
        for thread in (self._thread, self._heart):
            if thread.is_alive():
                thread.join(timeout=30)
        if self._token is not None:
            try:
                self.store.release_lease(self.owner)
            except StoreError as error:
                log.warning("the lease runs out by itself: %s", error)
        self.store.close()

    # -- the loop ----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                began, self._healing = time.thread_time(), 0.0
                worked = self.step()
                spent = time.thread_time() - began
                rest = self._rest(spent - self._healing, self._healing)
                self._stop.wait(rest if worked else self._settings.poll_interval)
            except (LeaseLost, PromotionMoved) as error:
                log.info("step given up: %s", error)
            except SelfHealError as error:
                log.error("step failed, will be tried again: %s", error)
                self._stop.wait(RETRY_SECONDS)
            except Exception:
                # The thread is the service's only healer: it must outlive what nobody foresaw.
                log.exception("step failed, will be tried again")
                self._stop.wait(RETRY_SECONDS)

    def _rest(self, reading: float, healing: float) -> float:
        """Seconds of rest after a step that took so many seconds of a core for either."""
        share = self._settings.heal_share
        return reading * (1 / max(share, READ_SHARE) - 1) + healing * (1 / share - 1)

    def _beat(self) -> None:
        """Renew the lease beside a long heal."""
        while not self._stop.wait(self._settings.lease_seconds / 3):
            try:
                token = self._token
                if token is None:
                    continue
                if self.store.acquire_lease(self.owner, self._settings.lease_seconds) != token:
                    self._token = None  # another one led meanwhile: begin from its checkpoint
            except StoreError as error:
                log.warning("the lease was not renewed: %s", error)

    def step(self) -> bool:
        """Read, think, write once; False when there was nothing to do.

        Raises:
            LeaseLost: Another runner leads.
            PromotionMoved: An operator's promotion came first.
            StoreError: The store is out of reach.
        """
        if self._token is None:
            self._token = self.store.acquire_lease(self.owner, self._settings.lease_seconds)
            self._pipeline = None
            if self._token is None:
                return False
            log.info("%s leads", self.owner)
        # A step that fails leaves no pipeline behind: its mind is ahead of the store.
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is None or pipeline.parts.package.tag != self.store.meta("package"):
            pipeline = self._open_or_yield()
        try:
            changed = self._follow_operators(pipeline)
            worked = self._read_log(pipeline)
            if changed or worked:
                began = time.monotonic()
                self._write(pipeline)
                self._write_seconds = time.monotonic() - began
        except LeaseLost:
            self._token = None
            raise
        self._pipeline = pipeline
        return worked

    def _open_or_yield(self) -> Pipeline:
        """A pipeline; where this replica lacks the package, or is too old for the checkpoint,
        another one gets to lead."""
        try:
            return self._open_pipeline()
        except (PackageError, NewerRelease, BentoMLException):
            self._token = None
            self.store.release_lease(self.owner)
            self._stop.wait(self._settings.lease_seconds)
            raise

    def _open_pipeline(self) -> Pipeline:
        """A pipeline where the last one stopped, or a fresh one behind the deployment."""
        tag, start = self.store.meta("package"), self.store.meta("start")
        if tag is None or start is None:
            raise StoreError("the store has no package yet; deploy one first")
        self.thresholds.refresh()
        pipeline = self._new_pipeline(tag)
        blob = self.store.state()
        try:
            if blob is not None and package_of(blob) == tag:
                restore(pipeline.parts, blob)
            else:
                _begin(pipeline, json.loads(start))
        except CheckpointError as error:
            pipeline = self._new_pipeline(tag)
            self._begin_anew(pipeline, json.loads(start), str(error))
        registry = registry_of(pipeline.parts.package, self.store, self._settings)
        registry.prune({s.tag for s in self.store.snapshots()})
        self.status = self.store.status()
        return pipeline

    def _begin_anew(self, pipeline: Pipeline, start: dict[str, Any], why: str) -> None:
        """Go on behind what is logged, where no checkpoint tells what was learned from it.

        What the store knows stays: what serves, the snapshots, and what operators have said.
        """
        _begin(pipeline, start)
        pipeline.parts.cursors.predictions, pipeline.parts.cursors.feedback, _ = self.store.ends()
        kept = self.store.snapshots()
        pipeline.parts.history.take_up(kept, next_version=self.store.newest_version() + 1)
        pipeline.parts.scoreboard.counts.heals = max((s.heal for s in kept), default=0)
        for command in self.store.commands(pipeline.parts.cursors.commands):
            pipeline.parts.cursors.commands = forward(
                "commands", pipeline.parts.cursors.commands, command.seq
            )
            if command.kind != "heal":
                self._obey(pipeline, command)
        pipeline.collect()  # what they said was noted when they said it
        pipeline.journal.note("begun_anew", {"reason": why, **pipeline.status()["cursors"]})

    def _new_pipeline(self, tag: str) -> Pipeline:
        package = open_package(tag, self._settings.device)
        return Pipeline(
            package,
            self._settings,
            registry_of(package, self.store, self._settings),
            thresholds=self.thresholds.current,
            telemetry=self._telemetry,
            announce=self._announce,
        )

    # -- one step ----------------------------------------------------------------------------

    def _follow_operators(self, pipeline: Pipeline) -> bool:
        changed = False
        if self.thresholds.refresh():
            pipeline.parts.controls.thresholds = self.thresholds.current
            pipeline.journal.note("thresholds", pipeline.parts.controls.thresholds.model_dump())
            changed = True
        newest = self.store.newest_promotion()
        if newest is not None and newest.seq != pipeline.parts.cursors.promotions:
            place = forward("promotions", pipeline.parts.cursors.promotions, newest.seq)
            if pipeline.parts.lineage.serving_version != newest.version:
                self._adopt(pipeline, newest)
            pipeline.parts.cursors.promotions = place
            changed = True
        elif newest is not None and pipeline.parts.lineage.serving is None:
            self._adopt(pipeline, newest)
            changed = True
        for command in self.store.commands(pipeline.parts.cursors.commands):
            pipeline.parts.cursors.commands = forward(
                "commands", pipeline.parts.cursors.commands, command.seq
            )
            self._obey(pipeline, command)
            changed = True
        return changed

    def _adopt(self, pipeline: Pipeline, newest: Promotion) -> None:
        try:
            pipeline.adopt(newest)
        except SnapshotError:
            pipeline.fall_back(self.store.servable(), newest.seq)

    @staticmethod
    def _obey(pipeline: Pipeline, command: Command) -> None:
        if command.kind == "heal":
            pipeline.heal_now(command.by)
        elif command.kind == "forget":
            reason = "asked for by an operator"
            pipeline.forget(command.argument or "", reason, command.by)
        else:
            pipeline.apply_command(command.kind, command.by)

    def _read_log(self, pipeline: Pipeline) -> bool:
        """Take what is new, and as much at once as lets a runner catch up that is behind, until
        a promotion is due: a better adapter should not wait."""
        until = time.monotonic() + min(READ_WRITES * self._write_seconds, MOST_READ_SECONDS)
        read = more = self._read_part(pipeline)
        while more >= READ_REQUESTS and time.monotonic() < until:
            if pipeline.journal.outcome.promotions:
                break
            more = self._read_part(pipeline)
        return read > 0

    def _read_part(self, pipeline: Pipeline) -> int:
        entries = self.store.read_log(
            pipeline.parts.cursors.predictions, pipeline.parts.cursors.feedback, READ_REQUESTS
        )
        wanted = {
            e.request for e in entries if isinstance(e, FeedbackRecord) and e.features is None
        }
        here = {e.request: e for e in entries if isinstance(e, PredictionRecord)}
        asked = {**self.store.predictions_of(wanted - here.keys()), **here}
        horizon = self.store.horizon() if wanted - asked.keys() else None
        for entry in entries:
            began, heals = time.thread_time(), pipeline.parts.scoreboard.counts.heals
            pipeline.consume(entry, asked.get(entry.request), horizon)
            if pipeline.parts.scoreboard.counts.heals > heals:
                self._healing += time.thread_time() - began
            if pipeline.journal.outcome.promotions:
                break
        return len(entries)

    def _write(self, pipeline: Pipeline) -> None:
        if self._token is None:
            raise LeaseLost("the lease ran out during the step")
        outcome = pipeline.collect()
        surplus = pipeline.surplus()
        status = self._status(pipeline)
        pipeline.parts.cursors.promotions = self.store.commit(
            self._token,
            StepRecord(
                state=dump(pipeline.parts),
                status=status,
                snapshots=list(outcome.snapshots.values()),
                dropped=[s.version for s in surplus],
                promotions=outcome.promotions,
                after_promotion=pipeline.parts.cursors.promotions,
                events=outcome.events,
                measurements=outcome.measurements,
                operating_point=self._moved_point(pipeline),
            ),
        )
        self.status = status
        self._told = _point(pipeline)
        if outcome.export:
            self._export(pipeline)
        if surplus:  # to ask the store whose they are, after each step, would be a read for nothing
            registry = registry_of(pipeline.parts.package, self.store, self._settings)
            for snapshot in surplus:
                registry.delete(snapshot.tag)
        for event, trace in zip(outcome.events, outcome.traces, strict=True):
            with within(trace):
                _say(event)

    def _moved_point(self, pipeline: Pipeline) -> str:
        """The operating point with the version that it belongs to; empty while both stay."""
        point = _point(pipeline)
        return point if point != self._told else ""

    def _export(self, pipeline: Pipeline) -> None:
        """Write the labelled buffer out for the retrain that is asked for."""
        parts, version = pipeline.parts, pipeline.parts.package.tag.split(":")[1]
        name = f"retrain-{version}-{parts.scoreboard.counts.labelled_batches}"
        path = state_dir(self._settings) / "exports" / f"{name}.parquet"
        try:
            rows = write_labelled(path, pipeline.parts.package, pipeline.parts.buffer)
        except OSError as error:
            log.error("the labelled rows could not be written to %s: %s", path, error)
        else:
            log.warning(
                "%s: %d labelled rows in %s", pipeline.parts.scoreboard.advice.retrain, rows, path
            )

    def _announce(self, state: State) -> None:
        """Show a heal that begins; the page would otherwise never see it.

        The figures stay those of the last step that was written: this one may yet be given up.
        """
        self.status = {**self.status, "state": state.value, "time": time.time()}
        if self._token is not None:
            self.store.show_status(self._token, self.status)

    def _status(self, pipeline: Pipeline) -> dict[str, Any]:
        requests, labels, _ = self.store.ends()
        unread = {
            "requests": requests - pipeline.parts.cursors.predictions,
            "labels": labels - pipeline.parts.cursors.feedback,
        }
        return {
            **pipeline.status(), "unread": unread, "time": time.time(), "runner": self.owner,
        }  # fmt: skip


def _point(pipeline: Pipeline) -> str:
    version = pipeline.parts.lineage.serving_version or None
    return json.dumps({**pipeline.parts.policy.point.as_dict(), "version": version})


def _begin(pipeline: Pipeline, start: dict[str, Any]) -> None:
    """Put a fresh pipeline behind the deployment."""
    pipeline.parts.cursors.start_from = pipeline.parts.cursors.predictions = start[
        "predictions_from"
    ]
    pipeline.parts.cursors.feedback = start["feedback_from"]
    pipeline.parts.cursors.commands = start["commands_from"]
    pipeline.parts.history.next_version = start["next_version"]


def _say(event: Event) -> None:
    level = logging.ERROR if event.kind in ("refused", "begun_anew") else logging.INFO
    log.log(level, "%s at batch %d: %s", event.kind, event.batch, json.dumps(event.detail))
