"""OTEL_* values that the SDK cannot take are ignored with a warning; the service starts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bento_selfheal.telemetry import metrics, otel_env
from bento_selfheal.telemetry.otel_invalid import CHECKS, clean, invalid

ROOT = Path(__file__).parents[3]
BASE = "http://localhost:1"


@pytest.mark.parametrize(
    "given",
    ["METRIC_EXPORT_INTERVAL=0", "METRIC_EXPORT_INTERVAL=-1", "METRIC_EXPORT_INTERVAL=nan",
     "METRICS_EXEMPLAR_FILTER=foo", "ATTRIBUTE_COUNT_LIMIT=abc", "SPAN_LINK_COUNT_LIMIT=-5",
     "BSP_MAX_QUEUE_SIZE=0", "BSP_MAX_QUEUE_SIZE=100", "BSP_SCHEDULE_DELAY=-1"],
)  # fmt: skip
def test_ignored(given: str, caplog: pytest.LogCaptureFixture) -> None:
    """The variable is gone from the environment, and the log names it with its value."""
    name, _, value = f"OTEL_{given}".partition("=")
    environ = {name: value, "OTEL_SERVICE_NAME": "mine"}
    otel_env.warn.cache_clear()
    clean(environ)
    assert environ == {"OTEL_SERVICE_NAME": "mine"}
    assert f"{name}={value}" in caplog.text


@pytest.mark.parametrize(
    "given",
    [{"OTEL_METRIC_EXPORT_INTERVAL": "500.5"}, {"OTEL_SPAN_LINK_COUNT_LIMIT": "0"},
     {"OTEL_ATTRIBUTE_COUNT_LIMIT": "unset"}, {"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"},
     {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100"}],
)  # fmt: skip
def test_followed(given: dict[str, str]) -> None:
    """What the SDK can take stays."""
    assert invalid(given) == {}


def test_blank(caplog: pytest.LogCaptureFixture) -> None:
    """A blank variable counts as unset, without a word; others are left."""
    environ = {**dict.fromkeys(CHECKS, " "), "OTEL_SERVICE_NAME": "", "OTHER": ""}
    with caplog.at_level(logging.INFO):
        clean(environ)
    assert environ == {"OTHER": ""}
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "selfheal"), ({"OTEL_SERVICE_NAME": " "}, "selfheal"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,a=b"}, "theirs"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs", "OTEL_SERVICE_NAME": "mine"}, "mine"),
    ],
)  # fmt: skip
def test_service_name_of_metrics(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    """Metrics have the name that the variables give, in the order of the specification."""
    seen: list[Any] = []
    monkeypatch.setattr(metrics, "_exporter", lambda export: None)
    monkeypatch.setattr("opentelemetry.sdk.metrics.export.PeriodicExportingMetricReader",
                        lambda exporter: None)  # fmt: skip

    class Provider:
        def __init__(self, _: Any, resource: Any) -> None:
            seen.append(resource)

        def get_meter(self, scope: str) -> None:
            pass

    monkeypatch.setattr("opentelemetry.sdk.metrics.MeterProvider", Provider)
    for key in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(key, raising=False)
    for key, value in {"OTEL_EXPORTER_OTLP_ENDPOINT": BASE, **variables}.items():
        monkeypatch.setenv(key, value)
    metrics.open_meter("selfheal")
    assert seen[0].attributes["service.name"] == name


def test_a_service_starts() -> None:
    """With a wrong value of each kind the SDK is imported and set up as the services do it."""
    wrong = dict.fromkeys(CHECKS, "abc") | {"OTEL_METRIC_EXPORT_INTERVAL": "0"}
    code = (
        "from bento_selfheal.telemetry.otel import tracing_options\n"
        "from bento_selfheal.telemetry.metrics import open_meter\n"
        "assert tracing_options()\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter\n"
        "TracerProvider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))\n"
        "assert open_meter('x')\n"
        "import os; os._exit(0)\n"
    )
    env = {**os.environ, **wrong, "OTEL_EXPORTER_OTLP_ENDPOINT": BASE}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True,
                          text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
