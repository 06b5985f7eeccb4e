"""The standard ``OTEL_*`` variables, read as the OpenTelemetry specification says.

An empty variable is an unset one. A value that is unknown, or that cannot be followed here, is
never dropped in silence: it becomes a `Problem`, which the log and the doctor show.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

Signal = Literal["traces", "metrics"]
Protocol = Literal["http", "grpc"]

GRPC_PACKAGE = "opentelemetry-exporter-otlp-proto-grpc"
GRPC_MODULE = "opentelemetry.exporter.otlp.proto.grpc"
PROTOCOLS = {"http/protobuf", "http/json", "grpc"}
SAMPLERS = {"always_on", "always_off", "traceidratio"}


@dataclass(frozen=True)
class Problem:
    """A variable that is not followed as it stands."""

    text: str
    """The variable, its value, and what happens instead."""
    fix: str
    """What to do about it."""


@dataclass(frozen=True)
class OtlpExport:
    """Where one signal goes over OTLP."""

    endpoint: str
    """URL, with the signal's path for HTTP."""
    protocol: Protocol


class OtelVariables:
    """The variables of one environment.

    Args:
        environ: The environment; that of this process when not given.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self.problems: list[Problem] = []
        """Problems found by what was asked so far."""

    def export(self, signal: Signal) -> OtlpExport | None:
        """Where a signal goes; None when it stays here, which is so until an endpoint is set."""
        upper = signal.upper()
        base = self._get("OTEL_EXPORTER_OTLP_ENDPOINT")
        own = self._get(f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT")
        if not (base or own) or self._disabled() or not self._to_otlp(f"OTEL_{upper}_EXPORTER"):
            return None
        protocol = self._protocol(signal)
        if protocol is None:
            return None
        path = "" if protocol == "grpc" else f"/v1/{signal}"
        return OtlpExport(own or base.rstrip("/") + path, protocol)

    def sample_rate(self) -> float:
        """Share of requests to trace, by ``OTEL_TRACES_SAMPLER`` and its argument."""
        name = self._get("OTEL_TRACES_SAMPLER")
        kind = name.lower().removeprefix("parentbased_")
        if kind and kind not in SAMPLERS:
            self._problem(
                f"OTEL_TRACES_SAMPLER={name} is unknown; every request is traced",
                "use always_on, always_off, traceidratio, or one of them after parentbased_",
            )
        if kind == "always_off":
            return 0.0
        return self._ratio() if kind == "traceidratio" else 1.0

    def _ratio(self) -> float:
        text = self._get("OTEL_TRACES_SAMPLER_ARG")
        try:
            ratio = float(text or 1.0)
        except ValueError:
            ratio = -1.0
        if 0 <= ratio <= 1:
            return ratio
        self._problem(
            f"OTEL_TRACES_SAMPLER_ARG={text} is no number from 0 to 1; every request is traced",
            "set it to the share of requests to trace",
        )
        return 1.0

    def _to_otlp(self, variable: str) -> bool:
        text = self._get(variable)
        names = [name for part in text.split(",") if (name := part.strip().lower())] or ["otlp"]
        others = sorted(set(names) - {"otlp", "none"})
        if others:
            fate = "only otlp is used" if "otlp" in names else "nothing is exported"
            self._problem(
                f"{variable}={text}: no exporter for {', '.join(others)} here; {fate}",
                f"set {variable} to otlp or none",
            )
        return "otlp" in names and "none" not in names

    def _protocol(self, signal: Signal) -> Protocol | None:
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
        variable = own if self._get(own) else "OTEL_EXPORTER_OTLP_PROTOCOL"
        text = self._get(variable)
        if text.lower() == "grpc":
            if _has_grpc():
                return "grpc"
            self._problem(
                f"{variable}=grpc needs the package {GRPC_PACKAGE}; no {signal} are exported",
                f"pip install {GRPC_PACKAGE}, or set {variable}=http/protobuf and the endpoint's "
                "port for HTTP, usually 4318",
            )
            return None
        if text and text.lower() != "http/protobuf":
            known = "not supported here" if text.lower() in PROTOCOLS else "unknown"
            self._problem(
                f"{variable}={text} is {known}; http/protobuf is used",
                f"set {variable} to http/protobuf or grpc",
            )
        return "http"

    def _disabled(self) -> bool:
        return self._get("OTEL_SDK_DISABLED").lower() == "true"

    def _get(self, name: str) -> str:
        return self._environ.get(name, "").strip()

    def _problem(self, text: str, fix: str) -> None:
        problem = Problem(text, fix)
        if problem not in self.problems:
            self.problems.append(problem)


@functools.cache
def warn(problem: Problem) -> None:
    """Log a problem, once in a process: each service of it reads the variables."""
    log.warning("%s (%s)", problem.text, problem.fix)


def _has_grpc() -> bool:
    try:
        return importlib.util.find_spec(GRPC_MODULE) is not None
    except ModuleNotFoundError:
        return False
