"""A predict worker's own metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from bento_selfheal.core.periodic import PeriodicThread, ThreadState
from bento_selfheal.errors import StoreError
from bento_selfheal.internals import metric_files
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.metric import Metric
from bento_selfheal.telemetry.metrics import observe_threads, of_model

log = logging.getLogger(__name__)


REFRESH_SECONDS = 1.0
TURNS_A_LOOK = 5
"""Refreshes between two looks at what the runner has not read."""
RESERVED_BYTES = 1 << 18


class Instruments:
    """The instruments of a predict worker's process, which its models share.

    Args:
        meter: Sends them over OTLP; None for ``/metrics`` alone.
        several: Whether figures carry the name of their model.
    """

    def __init__(self, meter: Meter | None, *, several: bool = False) -> None:
        more = ["model"] if several else []
        self.feedback = _counter(names.FEEDBACK_METRIC, more)
        self._refused = _counter(names.REFUSED_METRIC)
        self.queue = _gauge(names.QUEUE_METRIC, "livesum", more)
        self.dropped = _counter(names.DROPPED_METRIC, more)
        self.thread_alive = _gauge(names.THREAD_ALIVE_METRIC, "livemin", more)
        self.thread_failures = _counter(names.THREAD_FAILURES_METRIC, more)
        self.serves = _gauge(names.SERVES_METRIC, "livemin") if several else None
        self.models: list[WorkerMeters] = []
        self.otel_feedback = self._otel_refused = None
        if meter is not None:
            self.otel_feedback, self._otel_refused = (
                meter.create_counter(metric.name, metric.unit, metric.description)
                for metric in (names.FEEDBACK_METRIC, names.REFUSED_METRIC)
            )
            self._observe(meter)

    def refused(self, status: int) -> None:
        """Count one request that was refused with this status."""
        self._refused.labels(status).inc()
        if self._otel_refused is not None:
            self._otel_refused.add(1, {names.STATUS_CODE: status})

    def _observe(self, meter: Meter) -> None:
        def of_worker(figure: str) -> Callable[[CallbackOptions], list[Observation]]:
            return lambda _: [
                Observation(one.worker()[figure], of_model(one.model)) for one in self.models
            ]

        def of_store(
            figure: Callable[[WorkerMeters], float],
        ) -> Callable[[CallbackOptions], Iterable[Observation]]:
            def read(_: CallbackOptions) -> Iterable[Observation]:
                for one in self.models:
                    with suppress(StoreError):  # nobody can say
                        yield Observation(figure(one), of_model(one.model))

            return read

        names.QUEUE_METRIC.observe(meter, of_worker("queue_rows"))
        names.DROPPED_METRIC.observe(meter, of_worker("dropped_rows"))
        names.ALIVE_METRIC.observe(meter, of_store(lambda one: int(one.alive())))
        names.UNREAD_AGE_METRIC.observe(meter, of_store(lambda one: one.unread_seconds()))
        observe_threads(meter, lambda: {one.model: one.threads() for one in self.models})


class WorkerMeters:
    """Figures of one model that only a predict worker knows.

    Args:
        instruments: Those of the process.
        worker: Describes the worker.
        alive: Whether a runner holds the lease.
        unread_seconds: How long the oldest entry of the logs has waited for the runner.
        model: The model's name where there are several.

    Attributes:
        thread: Keeps ``/metrics`` up to date; it runs from the start.
    """

    def __init__(
        self,
        instruments: Instruments,
        worker: Callable[[], Mapping[str, Any]],
        alive: Callable[[], bool],
        unread_seconds: Callable[[], float],
        model: str = "",
    ) -> None:
        self.worker = worker
        self.alive = alive
        self.unread_seconds = unread_seconds
        self.model = model
        self._own = (model,) if model else ()
        self._instruments = instruments
        self._turns = 0
        self._counted: dict[str, int] = {}
        self._reserved: set[Path] = set()
        # A scraper keeps its connection, so it asks one worker only: the others must not wait
        # for it to bring their figures up to date.
        self.thread = PeriodicThread("selfheal-meters", self.refresh, REFRESH_SECONDS)
        self.thread.start()
        instruments.models.append(self)

    def feedback(self, counts: Mapping[str, int]) -> None:
        """Count one feedback request, its items by what happened to them."""
        sent = self._instruments.otel_feedback
        for outcome, count in counts.items():
            if count:
                self._instruments.feedback.labels(outcome, *self._own).inc(count)
                if sent is not None:
                    sent.add(count, {names.OUTCOME: outcome, **of_model(self.model)})

    def refresh(self) -> None:
        """Bring ``/metrics`` up to date with the worker, and see what the runner has not read."""
        self._reserve()
        now, shared = self.worker(), self._instruments
        self._of_model(shared.queue).set(now["queue_rows"])
        self._count_up_to(self._of_model(shared.dropped), "dropped", now["dropped_rows"])
        if shared.serves is not None:
            shared.serves.labels(self.model).set(1)
        for thread in self.threads(now):
            name = thread["name"]
            shared.thread_alive.labels(name, *self._own).set(thread["alive"])
            failures = shared.thread_failures.labels(name, *self._own)
            self._count_up_to(failures, name, thread["failures"])
        self._turns += 1
        if self._turns % TURNS_A_LOOK == 0:
            with suppress(StoreError):  # nobody can say
                self.unread_seconds()

    def threads(self, worker: Mapping[str, Any] | None = None) -> list[ThreadState]:
        """The state of the threads behind this model's answers, and of the one behind these
        figures."""
        return [*(worker or self.worker())["threads"], self.thread.state()]

    def _of_model(self, instrument: Any) -> Any:
        return instrument.labels(*self._own) if self._own else instrument

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


def _counter(metric: Metric, more: Sequence[str] = ()) -> Any:
    # Imported late: BentoML sets the multi-process folder before a worker is built.
    from prometheus_client import Counter

    return Counter(metric.prometheus, metric.description, _labels(metric, more))


def _gauge(metric: Metric, mode: Literal["livesum", "livemin"], more: Sequence[str] = ()) -> Any:
    from prometheus_client import Gauge

    labels = _labels(metric, more)
    return Gauge(metric.prometheus, metric.description, labels, multiprocess_mode=mode)


def _labels(metric: Metric, more: Sequence[str]) -> list[str]:
    return [*([metric.label] if metric.attribute else []), *more]
