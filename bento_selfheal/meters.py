"""Metrics out: OpenTelemetry over OTLP where it is asked for, and BentoML's ``/metrics``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from . import telemetry as names
from .telemetry import METRICS, SCOPE, STATE_METRIC, STATES, figure


def open_meter(service: str) -> Meter | None:
    """A meter that exports over OTLP as the standard ``OTEL_*`` variables say; None when off."""
    asked = (
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" in os.environ
        or "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ
    )
    if not asked or os.environ.get("OTEL_METRICS_EXPORTER", "otlp") != "otlp":
        return None
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create(
        {"service.name": os.environ.get("OTEL_SERVICE_NAME", service), "process.pid": os.getpid()}
    )
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return MeterProvider([reader], resource=resource).get_meter(SCOPE)


class WorkerMeters:
    """Figures that only a predict worker knows.

    Args:
        meter: Where they go over OTLP; None for ``/metrics`` alone.
        worker: What the worker says of itself.
    """

    def __init__(self, meter: Meter | None, worker: Any) -> None:
        # Imported late: BentoML sets the multi-process folder before a worker is built.
        import prometheus_client as prometheus

        self._feedback = prometheus.Counter(
            names.FEEDBACK_PROMETHEUS, "Items of feedback, by what became of them", ["outcome"]
        )
        queue = prometheus.Gauge(
            names.QUEUE_PROMETHEUS, "Predictions that wait for the store",
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._queue, self._worker = queue, worker
        self._dropped = prometheus.Counter(
            names.DROPPED_PROMETHEUS, "Predictions that the log dropped: the store stalled"
        )
        self._dropped_seen = 0
        self._otel_feedback = None
        if meter is not None:
            self._otel_feedback = meter.create_counter(
                names.FEEDBACK_METRIC, "{label}", "Items of feedback, by what became of them"
            )
            self._observe(meter)

    def feedback(self, counts: Mapping[str, int]) -> None:
        """Count one request of feedback."""
        for outcome, count in counts.items():
            if count:
                self._feedback.labels(outcome=outcome).inc(count)
                if self._otel_feedback is not None:
                    self._otel_feedback.add(count, {names.OUTCOME: outcome})

    def refresh(self) -> None:
        """Bring ``/metrics`` up to date; called off the request path."""
        now = self._worker()
        self._queue.set(now["queue_rows"])
        self._dropped.inc(now["dropped_rows"] - self._dropped_seen)
        self._dropped_seen = now["dropped_rows"]

    def _observe(self, meter: Meter) -> None:
        def queue(_: CallbackOptions) -> list[Observation]:
            return [Observation(self._worker()["queue_rows"])]

        def dropped(_: CallbackOptions) -> list[Observation]:
            return [Observation(self._worker()["dropped_rows"])]

        meter.create_observable_gauge(
            names.QUEUE_METRIC, [queue], "{row}", "Predictions that wait for the store"
        )
        meter.create_observable_counter(
            names.DROPPED_METRIC, [dropped], "{row}", "Predictions that the log dropped"
        )


def exposition(status: Mapping[str, Any]) -> str:
    """The runner's figures in Prometheus' text format, for BentoML's ``/metrics``."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    class Figures:
        def collect(self) -> Any:
            for metric in METRICS:
                value = figure(status, metric)
                if value is not None:
                    family = CounterMetricFamily if metric.counter else GaugeMetricFamily
                    yield family(metric.prometheus, metric.description, value=value)
            if "state" in status:
                states = GaugeMetricFamily(
                    STATE_METRIC.replace(".", "_"), "1 for the state that holds", labels=["state"]
                )
                for name in STATES:
                    states.add_metric([name], float(name == status["state"]))
                yield states

    registry = CollectorRegistry()
    registry.register(Figures())
    return generate_latest(registry).decode()
