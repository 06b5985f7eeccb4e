"""BentoML's tracing as the services configure it."""

from __future__ import annotations

import os
from typing import Any

from bento_selfheal.internals import BentoMLContainer, tracing_sample_rate
from bento_selfheal.telemetry.otel_env import OtelVariables, warn
from bento_selfheal.telemetry.otel_invalid import clean
from bento_selfheal.telemetry.spans import Telemetry


def open_telemetry() -> Telemetry:
    """Spans from BentoML's tracer provider; off where BentoML records none."""
    return Telemetry(BentoMLContainer.tracer_provider.get(), enabled=sample_rate() > 0)


def sample_rate() -> float:
    """Share of requests that BentoML's `tracing` settings record."""
    return tracing_sample_rate()


def tracing_options() -> dict[str, Any]:
    """BentoML's `tracing` settings from the standard ``OTEL_*`` variables.

    Empty when no endpoint is set, or when the variables turn tracing off. A variable that cannot be
    followed is a warning in the log.
    """
    clean(os.environ)
    variables = OtelVariables()
    export = variables.export("traces")
    rate = variables.sample_rate() if export is not None else 0.0
    for problem in variables.problems:
        warn(problem)
    if export is None or rate == 0:
        return {}
    otlp: dict[str, Any] = {"protocol": export.protocol, "endpoint": export.endpoint}
    return {"tracing": {"exporter_type": "otlp", "sample_rate": rate, "otlp": otlp}}
