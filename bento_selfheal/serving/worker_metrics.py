"""A predict worker's own metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from bento_selfheal.core.periodic import PeriodicThread, ThreadState
from bento_selfheal.errors import StoreError
from bento_selfheal.internals import metric_files
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.metrics import observe_threads
from bento_selfheal.telemetry.names import Metric

log = logging.getLogger(__name__)


REFRESH_SECONDS = 1.0
RESERVED_BYTES = 1 << 18


class WorkerMeters:
    """Figures that only a predict worker knows.

    Args:
        meter: Sends them over OTLP; None for ``/metrics`` alone.
        worker: Describes the worker.
        alive: Whether a runner holds the lease.

    Attributes:
        thread: Keeps ``/metrics`` up to date; it runs from the start.
    """

    def __init__(
        self,
        meter: Meter | None,
        worker: Callable[[], Mapping[str, Any]],
        alive: Callable[[], bool],
    ) -> None:
        self._worker = worker
        self._feedback = _counter(names.FEEDBACK_METRIC)
        self._refused = _counter(names.REFUSED_METRIC)
        self._queue = _gauge(names.QUEUE_METRIC, "livesum")
        self._dropped = _counter(names.DROPPED_METRIC)
        self._thread_alive = _gauge(names.THREAD_ALIVE_METRIC, "livemin")
        self._thread_failures = _counter(names.THREAD_FAILURES_METRIC)
        self._counted: dict[str, int] = {}
        self._reserved: set[Path] = set()
        self._otel_feedback = self._otel_refused = None
        if meter is not None:
            self._otel_feedback, self._otel_refused = (
                meter.create_counter(metric.name, metric.unit, metric.description)
                for metric in (names.FEEDBACK_METRIC, names.REFUSED_METRIC)
            )
            self._observe(meter, alive)
        # A scraper keeps its connection, so it asks one worker only: the others must not wait
        # for it to bring their figures up to date.
        self.thread = PeriodicThread("selfheal-meters", self.refresh, REFRESH_SECONDS)
        self.thread.start()

    def feedback(self, counts: Mapping[str, int]) -> None:
        """Count one feedback request, its items by what happened to them."""
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

    def refresh(self) -> None:
        """Bring ``/metrics`` up to date with the worker."""
        self._reserve()
        now = self._worker()
        self._queue.set(now["queue_rows"])
        self._count_up_to(self._dropped, "dropped", now["dropped_rows"])
        for thread in self._threads(now):
            name = thread["name"]
            self._thread_alive.labels(name).set(thread["alive"])
            self._count_up_to(self._thread_failures.labels(name), name, thread["failures"])

    def _threads(self, worker: Mapping[str, Any]) -> list[ThreadState]:
        return [*worker["threads"], self.thread.state()]

    def _count_up_to(self, counter: Any, what: str, total: int) -> None:
        counter.inc(total - self._counted.get(what, 0))
        self._counted[what] = total

    def _reserve(self) -> None:
        """Give this process's metric files their blocks on the disk.

        prometheus_client maps them sparse into memory: on a full disk the first figure that
        touches a new block would end the process (SIGBUS).
        """
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None or not hasattr(os, "posix_fallocate"):
            return
        for file in set(metric_files(Path(folder), os.getpid())) - self._reserved:
            try:
                with file.open("r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, RESERVED_BYTES)
            except OSError as error:
                log.warning("no room on the disk for metrics: %s", error)
            self._reserved.add(file)

    def _observe(self, meter: Meter, alive: Callable[[], bool]) -> None:
        def of_worker(figure: str) -> Callable[[CallbackOptions], list[Observation]]:
            return lambda _: [Observation(self._worker()[figure])]

        def runner(_: CallbackOptions) -> Iterable[Observation]:
            try:
                return [Observation(int(alive()))]
            except StoreError:
                return []  # nobody can say

        names.QUEUE_METRIC.observe(meter, of_worker("queue_rows"))
        names.DROPPED_METRIC.observe(meter, of_worker("dropped_rows"))
        names.ALIVE_METRIC.observe(meter, runner)
        observe_threads(meter, lambda: self._threads(self._worker()))


def _counter(metric: Metric) -> Any:
    # Imported late: BentoML sets the multi-process folder before a worker is built.
    from prometheus_client import Counter

    return Counter(metric.prometheus, metric.description, _labels(metric))


def _gauge(metric: Metric, mode: Literal["livesum", "livemin"]) -> Any:
    from prometheus_client import Gauge

    return Gauge(metric.prometheus, metric.description, _labels(metric), multiprocess_mode=mode)


def _labels(metric: Metric) -> list[str]:
    return [metric.label] if metric.attribute else []
