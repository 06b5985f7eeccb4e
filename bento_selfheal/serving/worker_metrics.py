"""A predict worker's own figures."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from bento_selfheal.errors import StoreError
from bento_selfheal.telemetry import names as names

log = logging.getLogger(__name__)


REFRESH_SECONDS = 1.0
RESERVED_BYTES = 1 << 18


class WorkerMeters:
    """Figures that only a predict worker knows.

    Args:
        meter: Where they go over OTLP; None for ``/metrics`` alone.
        worker: What the worker says of itself.
        alive: Whether a runner holds the lease.
    """

    def __init__(
        self,
        meter: Meter | None,
        worker: Callable[[], Mapping[str, Any]],
        alive: Callable[[], bool],
    ) -> None:
        # Imported late: BentoML sets the multi-process folder before a worker is built.
        import prometheus_client as prometheus

        feedback, refused = names.FEEDBACK_METRIC, names.REFUSED_METRIC
        queue, dropped = names.QUEUE_METRIC, names.DROPPED_METRIC
        self._feedback = prometheus.Counter(
            feedback.prometheus, feedback.description, [feedback.label]
        )
        self._refused = prometheus.Counter(refused.prometheus, refused.description, [refused.label])
        self._queue = prometheus.Gauge(
            queue.prometheus, queue.description, multiprocess_mode="livesum"
        )
        self._dropped = prometheus.Counter(dropped.prometheus, dropped.description)
        self._dropped_seen = 0
        self._reserved: set[Path] = set()
        self._worker, self._alive = worker, alive
        self._otel_feedback = self._otel_refused = None
        if meter is not None:
            self._otel_feedback, self._otel_refused = (
                meter.create_counter(metric.name, metric.unit, metric.description)
                for metric in (feedback, refused)
            )
            self._observe(meter)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="selfheal-meters", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Keep the figures up to date no longer."""
        self._stop.set()
        self._thread.join(timeout=5)

    def feedback(self, counts: Mapping[str, int]) -> None:
        """Count one request of feedback."""
        for outcome, count in counts.items():
            if count:
                self._feedback.labels(outcome).inc(count)
                if self._otel_feedback is not None:
                    self._otel_feedback.add(count, {names.OUTCOME: outcome})

    def refused(self, status: int) -> None:
        """Count one request that was refused with this status."""
        self._refused.labels(status).inc()
        if self._otel_refused is not None:
            self._otel_refused.add(1, {names.STATUS_CODE: status})

    def _run(self) -> None:
        # A scraper keeps its connection, so it asks one worker only: the others must not wait
        # for it to bring their figures up to date.
        while not self._stop.wait(REFRESH_SECONDS):
            self._reserve()
            now = self._worker()
            self._queue.set(now["queue_rows"])
            self._dropped.inc(now["dropped_rows"] - self._dropped_seen)
            self._dropped_seen = now["dropped_rows"]

    def _reserve(self) -> None:
        """Give this process's metric files their blocks on the disk.

        prometheus_client maps them sparse into memory: on a full disk the first figure that
        touches a new block would end the process (SIGBUS).
        """
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None or not hasattr(os, "posix_fallocate"):
            return
        for file in set(Path(folder).glob(f"*_{os.getpid()}.db")) - self._reserved:
            try:
                with file.open("r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, RESERVED_BYTES)
            except OSError as error:
                log.warning("no room on the disk for metrics: %s", error)
            self._reserved.add(file)

    def _observe(self, meter: Meter) -> None:
        def queue(_: CallbackOptions) -> list[Observation]:
            return [Observation(self._worker()["queue_rows"])]

        def dropped(_: CallbackOptions) -> list[Observation]:
            return [Observation(self._worker()["dropped_rows"])]

        def alive(_: CallbackOptions) -> list[Observation]:
            try:
                return [Observation(int(self._alive()))]
            except StoreError:
                return []  # nobody can say

        names.QUEUE_METRIC.observe(meter, queue)
        names.DROPPED_METRIC.observe(meter, dropped)
        names.ALIVE_METRIC.observe(meter, alive)
