"""Metrics out: OpenTelemetry over OTLP where it is asked for, and BentoML's ``/metrics``."""

from __future__ import annotations

import importlib
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeterProvider, Observation

from bento_selfheal.core.periodic import ThreadState
from bento_selfheal.telemetry import names
from bento_selfheal.telemetry.listed import LISTS
from bento_selfheal.telemetry.metric import Metric
from bento_selfheal.telemetry.names import METRICS, SCOPE, STATE, STATE_METRIC, STATES
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


def exposition(statuses: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures of the shared stores in Prometheus' text format, for BentoML's ``/metrics``.

    Args:
        statuses: As ``/status`` shows it, by model; of a service with one model its name is empty.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    more = ["model"] if any(statuses) else []

    def family(metric: Metric, samples: Iterable[tuple[str, list[str], float]]) -> Any:
        """A metric with its samples: the model of each, its own labels, and its value."""
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        own = [metric.label] if metric.attribute else []
        found = kind(metric.prometheus, metric.description, labels=[*own, *more])
        for model, labels, value in samples:
            found.add_metric([*labels, *([model] if more else [])], value)
        return found

    def families() -> Iterable[Any]:
        every = statuses.items()
        for metric in (*METRICS, names.ALIVE_METRIC, names.UNREAD_AGE_METRIC):
            told = ((model, figure(status, metric)) for model, status in every)
            yield family(metric, [(m, [], value) for m, value in told if value is not None])
        for items, name, metrics in LISTS:
            for metric in metrics:
                told_of = [(m, by_item(status, items, name, metric)) for m, status in every]
                yield family(metric, [(m, [n], v) for m, each in told_of for n, v in each])
        states = [
            (model, [name], float(name == status["state"]))
            for model, status in every if "state" in status
            for name in STATES
        ]  # fmt: skip
        yield family(STATE_METRIC, states)

    class Figures:
        def collect(self) -> Any:
            return [one for one in families() if one.samples]

    registry = CollectorRegistry()
    registry.register(Figures())
    return generate_latest(registry).decode()


def with_threads(content: str, threads: Mapping[str, Iterable[ThreadState]]) -> str:
    """A page of Prometheus' text format with the runner's threads beside the workers'.

    Args:
        content: The page; a metric that it has already gets further samples, as no metric may
            stand in a page twice.
        threads: The runner's, as ``/status`` shows them, by model.
    """
    samples: dict[Metric, list[str]] = {}
    for model, thread in _each(threads):
        figures = {
            names.THREAD_ALIVE_METRIC: int(thread["alive"]),
            names.THREAD_FAILURES_METRIC: thread["failures"],
        }
        own = f',model="{model}"' if model else ""
        for metric, value in figures.items():
            labels = f'{metric.label}="{thread["name"]}"{own}'
            samples.setdefault(metric, []).append(f"{metric.prometheus}{{{labels}}} {float(value)}")
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


def by_item(
    status: Mapping[str, Any], items: str, name: str, metric: Metric
) -> Iterable[tuple[str, float]]:
    """The values of a metric in a list of a status, with the name of the item that each is of."""
    for one in status.get(items) or ():
        value = figure(one, metric)
        if value is not None:
            yield one[name], value


def of_model(model: str) -> dict[str, str]:
    """The attribute of a figure that is about one of several models."""
    return {names.MODEL: model} if model else {}


def observe_status(
    meter: Meter | None, statuses: Callable[[], Mapping[str, Mapping[str, Any]]]
) -> None:
    """Let OpenTelemetry read every figure of the runner's status, by model, when it collects."""
    meter = meter or NoOpMeterProvider().get_meter(SCOPE)
    for metric in METRICS:

        def read(_: CallbackOptions, metric: Metric = metric) -> Iterable[Observation]:
            for model, status in statuses().items():
                if (value := figure(status, metric)) is not None:
                    yield Observation(value, of_model(model))

        metric.observe(meter, read)

    for items, name, metrics in LISTS:
        for metric in metrics:
            metric.observe(meter, partial(_of_each, statuses, items, name, metric))

    def state(_: CallbackOptions) -> Iterable[Observation]:
        for model, status in statuses().items():
            now = status.get("state")
            for name in STATES:
                yield Observation(int(name == now), {STATE: name, **of_model(model)})

    STATE_METRIC.observe(meter, state)


def _of_each(
    statuses: Callable[[], Mapping[str, Mapping[str, Any]]],
    items: str,
    name: str,
    metric: Metric,
    _: CallbackOptions,
) -> Iterable[Observation]:
    """The values of a metric in a list of each status."""
    for model, status in statuses().items():
        for own, value in by_item(status, items, name, metric):
            yield Observation(value, {metric.attribute: own, **of_model(model)})


def observe_threads(
    meter: Meter | None, threads: Callable[[], Mapping[str, Iterable[ThreadState]]]
) -> None:
    """Let OpenTelemetry read the state of a process's background threads, by model, when it
    collects."""
    meter = meter or NoOpMeterProvider().get_meter(SCOPE)

    def alive(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(t["alive"]), _of_thread(m, t)) for m, t in _each(threads())]

    def failures(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(t["failures"], _of_thread(m, t)) for m, t in _each(threads())]

    names.THREAD_ALIVE_METRIC.observe(meter, alive)
    names.THREAD_FAILURES_METRIC.observe(meter, failures)


def _each(threads: Mapping[str, Iterable[ThreadState]]) -> Iterable[tuple[str, ThreadState]]:
    return [(model, thread) for model, own in threads.items() for thread in own]


def _of_thread(model: str, thread: ThreadState) -> dict[str, str]:
    return {names.THREAD: thread["name"], **of_model(model)}
