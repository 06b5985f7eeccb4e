"""The OTEL_* variables: as the specification has them, and none ignored in silence."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bento_selfheal.telemetry import otel_env
from bento_selfheal.telemetry.otel import tracing_options
from bento_selfheal.telemetry.otel_env import OtelVariables, OtlpExport

BASE = "http://collector:4318"
TRACES = OtlpExport(f"{BASE}/v1/traces", "http")


@pytest.fixture(params=[True, False])
def grpc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the gRPC exporter is installed."""
    monkeypatch.setattr(otel_env, "_has_grpc", lambda: request.param)
    return bool(request.param)


def asked(**variables: str) -> OtelVariables:
    return OtelVariables(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": BASE, **{f"OTEL_{k}": v for k, v in variables.items()}}
    )


@pytest.mark.parametrize(
    ("variables", "exported", "said"),
    [
        ({}, True, None),
        ({"TRACES_EXPORTER": ""}, True, None),
        ({"TRACES_EXPORTER": "otlp"}, True, None),
        ({"TRACES_EXPORTER": "none"}, False, None),
        ({"TRACES_EXPORTER": " OTLP , console "}, True, "only otlp is used"),
        ({"TRACES_EXPORTER": "console"}, False, "nothing is exported"),
        ({"TRACES_EXPORTER": "otpl"}, False, "otpl"),
        ({"SDK_DISABLED": "TRUE"}, False, None),
        ({"SDK_DISABLED": "false"}, True, None),
        ({"EXPORTER_OTLP_PROTOCOL": ""}, True, None),
        ({"EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True, None),
        ({"EXPORTER_OTLP_PROTOCOL": "http/json"}, True, "http/json is not supported here"),
        ({"EXPORTER_OTLP_PROTOCOL": "htpp"}, True, "htpp is unknown"),
        ({"EXPORTER_OTLP_ENDPOINT": ""}, False, None),
    ],
)
def test_where_traces_go(variables: dict[str, str], exported: bool, said: str | None) -> None:
    """An empty variable is an unset one; what cannot be followed is a problem that names the
    variable and its value, never silence."""
    read = asked(**variables)
    assert read.export("traces") == (TRACES if exported else None)
    assert bool(read.problems) is (said is not None)
    for problem in read.problems:
        assert said is not None
        assert said in problem.text
        assert f"OTEL_{next(iter(variables))}=" in problem.text
        assert problem.fix


def test_endpoints() -> None:
    """A signal's own endpoint is used as it stands; the common one gets the signal's path."""
    read = asked(EXPORTER_OTLP_TRACES_ENDPOINT="http://t:1/mine", EXPORTER_OTLP_ENDPOINT=BASE + "/")
    assert read.export("traces") == OtlpExport("http://t:1/mine", "http")
    assert read.export("metrics") == OtlpExport(f"{BASE}/v1/metrics", "http")


def test_grpc(grpc: bool) -> None:
    """gRPC is used where its package is installed; else nothing is sent to a port that speaks
    another protocol, and the problem says what to install."""
    read = asked(EXPORTER_OTLP_PROTOCOL="grpc", EXPORTER_OTLP_METRICS_PROTOCOL="http/protobuf")
    assert read.export("traces") == (OtlpExport(BASE, "grpc") if grpc else None)
    assert read.export("metrics") == OtlpExport(f"{BASE}/v1/metrics", "http")
    assert [otel_env.GRPC_PACKAGE in p.fix for p in read.problems] == [True] * (not grpc)


@pytest.mark.parametrize(
    ("sampler", "argument", "rate", "problems"),
    [
        ("", "", 1.0, 0), ("always_on", "", 1.0, 0), ("parentbased_always_off", "", 0.0, 0),
        ("traceidratio", "0.25", 0.25, 0), ("parentbased_traceidratio", " 0 ", 0.0, 0),
        ("traceidratio", "", 1.0, 0), ("traceidratio", "many", 1.0, 1),
        ("traceidratio", "nan", 1.0, 1), ("traceidratio", "1.5", 1.0, 1),
        ("jaeger_remote", "", 1.0, 1), ("always_on", "0.1", 1.0, 0),
    ],
)  # fmt: skip
def test_sampler(sampler: str, argument: str, rate: float, problems: int) -> None:
    """An empty argument is none; a wrong one is named, and every request is traced."""
    read = asked(TRACES_SAMPLER=sampler, TRACES_SAMPLER_ARG=argument)
    assert read.sample_rate() == rate
    assert len(read.problems) == problems


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, {"protocol": "http", "endpoint": f"{BASE}/v1/traces", "rate": 1.0}),
        ({"TRACES_SAMPLER": "traceidratio", "TRACES_SAMPLER_ARG": ""},
         {"protocol": "http", "endpoint": f"{BASE}/v1/traces", "rate": 1.0}),
        ({"TRACES_SAMPLER": "always_off"}, {}),
        ({"EXPORTER_OTLP_ENDPOINT": ""}, {}),
        ({"TRACES_SAMPLER": "traceidratio", "TRACES_SAMPLER_ARG": "half"},
         {"protocol": "http", "endpoint": f"{BASE}/v1/traces", "rate": 1.0}),
    ],
)  # fmt: skip
def test_bentomls_options(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    variables: dict[str, str], options: dict[str, Any],
) -> None:  # fmt: skip
    """The variables become BentoML's `tracing` settings, and what is wrong a line in the log."""
    for name, value in asked(**variables)._environ.items():
        monkeypatch.setenv(name, value)
    otel_env.warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        tracing_options()
        found = tracing_options().get("tracing", {})
    told = {"rate": found.pop("sample_rate"), **found["otlp"]} if found else {}
    assert told == options
    wrong = variables.get("TRACES_SAMPLER_ARG") == "half"
    assert caplog.text.count("OTEL_TRACES_SAMPLER_ARG=half") == wrong, "named once"
