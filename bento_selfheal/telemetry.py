"""Every span, attribute and metric name, and the way out for all of them.

Spans come from BentoML's own tracer provider, so a span opened inside a request joins that
request's trace. Between processes a traceparent travels with the row in the store, and the
span on the other side links to it. Telemetry never raises and never makes a prediction wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeterProvider, Observation
from opentelemetry.trace import Link, NoOpTracerProvider, Span, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SCOPE = "bento_selfheal"

PREDICT = "selfheal.predict"
FEEDBACK = "selfheal.feedback"
JOIN = "selfheal.join"
SIGNAL = "selfheal.signal"
HEAL = "selfheal.heal"
GATE = "selfheal.gate"
SNAPSHOT = "selfheal.snapshot"
PROMOTE = "selfheal.promote"
ROLLBACK = "selfheal.rollback"
RELOAD = "selfheal.reload"

ROWS = "selfheal.rows"
VERSION = "selfheal.version"
BATCH = "selfheal.batch"
REASON = "selfheal.reason"
OUTCOME = "selfheal.outcome"
RECIPE = "selfheal.recipe"
HEAL_NUMBER = "selfheal.heal.number"
PHASE = "selfheal.snapshot.phase"
Z = "selfheal.signal.z"
CONFLICTS = "selfheal.signal.conflicts"
DRIFTING = "selfheal.signal.drifting"
LOSS = "selfheal.loss."
EVIDENCE = "selfheal.gate."

MAX_LINKS = 32


@dataclass(frozen=True)
class Metric:
    """One figure: its OpenTelemetry name, unit and meaning, and where the status has it."""

    name: str
    unit: str
    description: str
    path: tuple[str, ...]
    counter: bool = False

    @property
    def prometheus(self) -> str:
        """The same name on BentoML's ``/metrics``."""
        suffix = {"s": "_seconds", "1": "_ratio"}.get(self.unit, "")
        return self.name.replace(".", "_") + suffix + ("_total" if self.counter else "")


METRICS = (
    Metric("selfheal.signal.z", "{sigma}", "FIDI: largest z of a sensitive feature",
           ("signals", "z")),
    Metric("selfheal.signal.conflicts", "{row}", "Rows of the newest batch in conflict with a rule",
           ("signals", "conflicts")),
    Metric("selfheal.champion.accuracy", "1", "Accuracy of what was served, newest labelled batch",
           ("last", "champion", "accuracy")),
    Metric("selfheal.champion.f1", "1", "F1 of what was served, newest labelled batch",
           ("last", "champion", "f1")),
    Metric("selfheal.shadow.accuracy", "1", "Accuracy of the frozen shadow on the same rows",
           ("last", "shadow", "accuracy")),
    Metric("selfheal.shadow.f1", "1", "F1 of the frozen shadow on the same rows",
           ("last", "shadow", "f1")),
    Metric("selfheal.lift", "1", "Accuracy of champion less shadow, mean over labelled batches",
           ("lift", "mean")),
    Metric("selfheal.label.delay", "s", "Mean time from answer to label, newest labelled batch",
           ("labels", "delay_seconds")),
    Metric("selfheal.labels.waiting", "{label}", "Labels that wait for their prediction",
           ("labels", "waiting")),
    Metric("selfheal.labels.joined", "{label}", "Labels joined with their row",
           ("labels", "joined"), counter=True),
    Metric("selfheal.labels.unmatched", "{label}", "Labels given up: their prediction never came",
           ("labels", "unmatched"), counter=True),
    Metric("selfheal.heals", "{heal}", "Heals", ("heals",), counter=True),
    Metric("selfheal.promotions", "{promotion}", "Promotions", ("promotions",), counter=True),
    Metric("selfheal.rollbacks", "{rollback}", "Rollbacks", ("rollbacks",), counter=True),
    Metric("selfheal.serving.version", "{version}", "Snapshot version that serves",
           ("serving", "version")),
)  # fmt: skip

STATE_METRIC = "selfheal.state"
STATES = ("HEALTHY", "DRIFTING", "HEALING", "RETRAIN_NEEDED", "ROLLED_BACK")

# A predict worker's own figures: over OTLP, and on BentoML's ``/metrics``.
FEEDBACK_METRIC, FEEDBACK_PROMETHEUS = "selfheal.feedback", "selfheal_feedback"
QUEUE_METRIC, QUEUE_PROMETHEUS = "selfheal.queue", "selfheal_queue_rows"
DROPPED_METRIC, DROPPED_PROMETHEUS = "selfheal.dropped", "selfheal_dropped_rows"


class Telemetry:
    """The spans of one process.

    Args:
        provider: Where spans go; None makes none.
        enabled: Whether any span is worth building; the hot path asks this first.
    """

    def __init__(self, provider: TracerProvider | None = None, *, enabled: bool = True) -> None:
        self.enabled = enabled and provider is not None
        self._tracer = (provider or NoOpTracerProvider()).get_tracer(SCOPE)

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        links: Iterable[str | None] = (),
    ) -> Iterator[Span]:
        """Open a span; ``links`` are traceparents of what led here."""
        made = [link for parent in list(links)[:MAX_LINKS] if (link := _link(parent))]
        with self._tracer.start_as_current_span(
            name, attributes=dict(attributes or {}), links=made
        ) as span:
            yield span

    @staticmethod
    def traceparent() -> str | None:
        """The current span as a W3C traceparent; None when it is not recorded."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier.get("traceparent")


def _link(traceparent: str | None) -> Link | None:
    if traceparent is None:
        return None
    context = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    found = trace.get_current_span(context).get_span_context()
    return Link(found) if found.is_valid else None


def figure(status: Mapping[str, Any], metric: Metric) -> float | None:
    """The value of a metric in a status; None where there is none yet."""
    value: Any = status
    for key in metric.path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def observe_status(meter: Meter | None, status: Callable[[], Mapping[str, Any]]) -> None:
    """Let OpenTelemetry read every figure of the runner's status when it collects."""
    meter = meter or NoOpMeterProvider().get_meter(SCOPE)
    for metric in METRICS:

        def read(_: CallbackOptions, metric: Metric = metric) -> Iterable[Observation]:
            value = figure(status(), metric)
            return [] if value is None else [Observation(value)]

        make = meter.create_observable_counter if metric.counter else meter.create_observable_gauge
        make(metric.name, callbacks=[read], unit=metric.unit, description=metric.description)

    def state(_: CallbackOptions) -> Iterable[Observation]:
        now = status().get("state")
        return [Observation(int(name == now), {"selfheal.state": name}) for name in STATES]

    meter.create_observable_gauge(
        STATE_METRIC, callbacks=[state], unit="1", description="1 for the state that holds"
    )
