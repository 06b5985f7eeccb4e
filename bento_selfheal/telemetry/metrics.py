"""Metrics out: OpenTelemetry over OTLP where it is asked for, and BentoML's ``/metrics``."""

from __future__ import annotations

import importlib
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeterProvider, Observation

from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.names import METRICS, SCOPE, STATE, STATE_METRIC, STATES, Metric
from bento_selfheal.telemetry.otel_env import GRPC_MODULE, OtelVariables, OtlpExport, warn
from bento_selfheal.telemetry.otel_invalid import clean

log = logging.getLogger(__name__)


def open_meter(service: str) -> Meter | None:
    """A meter that exports over OTLP as the standard ``OTEL_*`` variables say; None when off."""
    clean(os.environ)
    variables = OtelVariables()
    export = variables.export("metrics")
    for problem in variables.problems:
        warn(problem)
    if export is None:
        return None
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    named = OTELResourceDetector().detect().attributes
    resource = Resource.create(
        {
            # What is given here comes before the variables.
            "service.name": named.get("service.name") or service,
            # Without it a backend takes the workers' series for one and mixes their points.
            "service.instance.id": str(uuid.uuid4()),
            "process.pid": os.getpid(),
        }
    )
    reader = PeriodicExportingMetricReader(_exporter(export))
    return MeterProvider([reader], resource=resource).get_meter(SCOPE)


def _exporter(export: OtlpExport) -> Any:
    """The exporter; it reads the other variables of its kind, such as headers, by itself."""
    if export.protocol == "grpc":
        module = importlib.import_module(f"{GRPC_MODULE}.metric_exporter")
    else:
        module = importlib.import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    return module.OTLPMetricExporter(endpoint=export.endpoint)


def exposition(status: Mapping[str, Any]) -> str:
    """The figures of the shared store in Prometheus' text format, for BentoML's ``/metrics``.

    Args:
        status: As ``/status`` shows it.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    class Figures:
        def collect(self) -> Any:
            for metric in (*METRICS, names.ALIVE_METRIC):
                value = figure(status, metric)
                if value is not None:
                    counts = metric.kind == "counter"
                    family = CounterMetricFamily if counts else GaugeMetricFamily
                    yield family(metric.prometheus, metric.description, value=value)
            for metric in names.SEGMENT_METRICS if status.get("segments") else ():
                counts = metric.kind == "counter"
                family = CounterMetricFamily if counts else GaugeMetricFamily
                each = family(metric.prometheus, metric.description, labels=[metric.label])
                for name, value in by_segment(status, metric):
                    each.add_metric([name], value)
                yield each
            if "state" in status:
                states = GaugeMetricFamily(
                    STATE_METRIC.prometheus, STATE_METRIC.description, labels=[STATE_METRIC.label]
                )
                for name in STATES:
                    states.add_metric([name], float(name == status["state"]))
                yield states

    registry = CollectorRegistry()
    registry.register(Figures())
    return generate_latest(registry).decode()


def with_threads(content: str, threads: Iterable[ThreadState]) -> str:
    """A page of Prometheus' text format with the runner's threads beside the workers'.

    Args:
        content: The page; a metric that it has already gets further samples, as no metric may
            stand in a page twice.
        threads: The runner's, as ``/status`` shows them.
    """
    samples: dict[Metric, list[str]] = {}
    for thread in threads:
        figures = {
            names.THREAD_ALIVE_METRIC: int(thread["alive"]),
            names.THREAD_FAILURES_METRIC: thread["failures"],
        }
        for metric, value in figures.items():
            sample = f'{metric.prometheus}{{{metric.label}="{thread["name"]}"}} {float(value)}'
            samples.setdefault(metric, []).append(sample)
    for metric, lines in samples.items():
        head = f"# TYPE {metric.prometheus} {metric.kind}\n"
        if head not in content:
            content += f"# HELP {metric.prometheus} {metric.description}\n{head}"
        content = content.replace(head, head + "\n".join(lines) + "\n")
    return content


def figure(status: Mapping[str, Any], metric: Metric) -> float | None:
    """The value of a metric in a status; None where there is none yet."""
    value: Any = status
    for key in metric.path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def by_segment(status: Mapping[str, Any], metric: Metric) -> Iterable[tuple[str, float]]:
    """The values of a metric in a status, with the segment that each is of."""
    for one in status.get("segments") or ():
        value = figure(one, metric)
        if value is not None:
            yield one["segment"], value


def observe_status(meter: Meter | None, status: Callable[[], Mapping[str, Any]]) -> None:
    """Let OpenTelemetry read every figure of the runner's status when it collects."""
    meter = meter or NoOpMeterProvider().get_meter(SCOPE)
    for metric in METRICS:

        def read(_: CallbackOptions, metric: Metric = metric) -> Iterable[Observation]:
            value = figure(status(), metric)
            return [] if value is None else [Observation(value)]

        metric.observe(meter, read)

    for metric in names.SEGMENT_METRICS:

        def each(_: CallbackOptions, metric: Metric = metric) -> Iterable[Observation]:
            told = by_segment(status(), metric)
            return [Observation(value, {names.SEGMENT: name}) for name, value in told]

        metric.observe(meter, each)

    def state(_: CallbackOptions) -> Iterable[Observation]:
        now = status().get("state")
        return [Observation(int(name == now), {STATE: name}) for name in STATES]

    STATE_METRIC.observe(meter, state)


def observe_threads(meter: Meter | None, threads: Callable[[], Iterable[ThreadState]]) -> None:
    """Let OpenTelemetry read the state of a process's background threads when it collects."""
    meter = meter or NoOpMeterProvider().get_meter(SCOPE)

    def alive(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(t["alive"]), {names.THREAD: t["name"]}) for t in threads()]

    def failures(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(t["failures"], {names.THREAD: t["name"]}) for t in threads()]

    names.THREAD_ALIVE_METRIC.observe(meter, alive)
    names.THREAD_FAILURES_METRIC.observe(meter, failures)
