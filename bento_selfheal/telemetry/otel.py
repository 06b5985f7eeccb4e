"""BentoML's tracing as the services configure it."""

from __future__ import annotations

import os
from typing import Any

from bento_selfheal.internals import BentoMLContainer, tracing_sample_rate
from bento_selfheal.telemetry.spans import Telemetry


def open_telemetry() -> Telemetry:
    return Telemetry(BentoMLContainer.tracer_provider.get(), enabled=sample_rate() > 0)


def sample_rate() -> float:
    """Share of requests that BentoML's `tracing` settings record."""
    return tracing_sample_rate()


def tracing_options() -> dict[str, Any]:
    """BentoML's `tracing` settings from the standard OTEL_* variables; empty when unset."""
    env = os.environ
    base = env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (
        base and base.rstrip("/") + "/v1/traces"
    )
    if not endpoint or env.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return {}
    if env.get("OTEL_TRACES_SAMPLER", "").endswith("always_off"):
        return {}
    ratio = "ratio" in env.get("OTEL_TRACES_SAMPLER", "")
    rate = float(env.get("OTEL_TRACES_SAMPLER_ARG", "1")) if ratio else 1.0
    return {
        "tracing": {
            "exporter_type": "otlp",
            "sample_rate": rate,
            "otlp": {"protocol": "http", "endpoint": endpoint},
        }
    }
