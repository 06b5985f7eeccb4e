"""Every private part of BentoML, tornado, prometheus_client and uvicorn that this package leans on.

None of them is promised to stay. Each is named here and nowhere else, and each has a test in
`tests/unit/test_internals.py` that fails when a new version moves it or changes what it does.
What is heavy to import is imported when it is first asked for.
"""

from __future__ import annotations

import functools
import importlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvicorn.config
from bentoml._internal.bento.bento import BentoModelInfo
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore
from bentoml.exceptions import BentoMLException
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from _bentoml_impl.server.app import ContextMiddleware
    from bentoml._internal.context import server_context
    from bentoml._internal.server.http.access import AccessLogMiddleware
    from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
    from bentoml._internal.server.http.traffic import TimeoutMiddleware

__all__ = [
    "LATE",
    "AccessLogMiddleware",
    "BentoMLContainer",
    "BentoModelInfo",
    "ContextMiddleware",
    "HttpToolsProtocol",
    "ModelStore",
    "RunnerTrafficMetricsMiddleware",
    "TimeoutMiddleware",
    "get_route_path",
    "server_context",
]

LATE = {
    "ContextMiddleware": "_bentoml_impl.server.app",
    "server_context": "bentoml._internal.context",
    "AccessLogMiddleware": "bentoml._internal.server.http.access",
    "RunnerTrafficMetricsMiddleware": "bentoml._internal.server.http.instruments",
    "TimeoutMiddleware": "bentoml._internal.server.http.traffic",
}
"""Names of the server, by the module that has them: it takes over a second to import."""

CONTAINERIZED = "BENTOML_CONTAINERIZED"
"""BentoML's images set this variable, and its process watcher behaves otherwise where it is set."""
BAD_FORM = "form"
"""Type of the error of a form that cannot be read."""
MOUNTED_APPS = "__bentoml_mounted_apps__"
UNFORESEEN = b'{"error":"An unexpected error has occurred, please check the server log."}'
"""BentoML's answer where an endpoint raised what nobody foresaw."""


def __getattr__(name: str) -> Any:
    if name in LATE:
        return getattr(importlib.import_module(LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def supervise_by_monotonic_time() -> None:
    """Have `bentoml serve` look after its processes by a clock that nobody can set.

    Its supervisor asks tornado when to look next, and tornado goes by the wall clock: set back by
    an hour, a process that died would stay dead for an hour.
    """
    importlib.import_module("tornado.ioloop").IOLoop.time = lambda _: time.monotonic()


def mount_below(cls: type, app: Any) -> None:
    """Serve an ASGI application beside the endpoints of a service's class."""
    # BentoML takes mounted apps off the very class that it decorates.
    setattr(cls, MOUNTED_APPS, [(app, "/", None)])


def hide_input(*methods: Any) -> None:
    """Let validation errors of endpoints leave the input out: BentoML writes them to the log."""
    for method in methods:
        method.input_spec.model_config["hide_input_in_errors"] = True
        method.input_spec.model_rebuild(force=True)


def refuse_unknown_fields(*methods: Any) -> None:
    """Let a field that an endpoint does not have be a validation error; BentoML ignores it."""
    for method in methods:
        method.input_spec.model_config["extra"] = "forbid"
        method.input_spec.model_rebuild(force=True)


def refuse_bad_forms(*methods: Any) -> None:
    """Let a form that cannot be read be a validation error, which BentoML answers with a 400.

    The parsers of forms raise errors of many kinds, and BentoML takes each for a defect.
    """

    def checked(parse: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def from_http_request(request: Any, serde: Any) -> Any:
            try:
                return await parse(request, serde)
            except (ValueError, RecursionError, HTTPException) as error:
                if isinstance(error, ValidationError):
                    raise
                wrong = PydanticCustomError(BAD_FORM, "a form of JSON texts is needed")
                raise ValidationError.from_exception_data(
                    "Input", [{"type": wrong, "loc": ("body",), "input": None}], hide_input=True
                ) from error

        return from_http_request

    for method in methods:
        method.input_spec.from_http_request = checked(method.input_spec.from_http_request)


def answer_refusals(app: Any, answer: Callable[[Request, Exception], Response | None]) -> None:
    """Have another answer what BentoML's endpoints refuse, before BentoML writes it to the log.

    Args:
        app: BentoML's application.
        answer: Given the request and the error; None leaves them to BentoML.
    """
    # Each endpoint's route holds a method of the server, with the endpoint's name.
    ends = (getattr(route, "endpoint", None) for route in app.routes)
    method: Any = next(end for end in ends if isinstance(end, functools.partial)).func
    server = method.__self__
    asked = server.api_endpoint

    async def api_endpoint(name: str, request: Request) -> Response:
        try:
            return cast(Response, await asked(name, request))
        except (ValidationError, BentoMLException) as error:
            if (response := answer(request, error)) is None:
                raise
            return response

    server.api_endpoint = api_endpoint


def tracing_sample_rate() -> float:
    """Share of requests that BentoML's `tracing` settings record."""
    return float(BentoMLContainer.tracing.sample_rate.get() or 0.0)


def request_metrics(app: Any) -> Any:
    """BentoML's request metrics in an application's built stack; None where metrics are off.

    Returns:
        An object with `metrics_request_total`, `metrics_request_duration` and
        `metrics_last_request_timestamp`.
    """
    kind = importlib.import_module(LATE["RunnerTrafficMetricsMiddleware"])
    layer = app.middleware_stack
    while layer is not None and not isinstance(layer, kind.RunnerTrafficMetricsMiddleware):
        layer = getattr(layer, "app", None)
    if layer is not None and not layer._is_setup:
        layer._setup()
    return layer


def request_labels() -> dict[str, str]:
    """The labels that BentoML's request metrics carry beside endpoint and status."""
    context = importlib.import_module(LATE["server_context"]).server_context
    return {
        "service_name": context.bento_name,
        "service_version": context.bento_version,
        "runner_name": context.service_name,
    }


def observe_all(histogram: Any, values: Sequence[float]) -> None:
    """`observe` each value; prometheus_client has no public way to take many at once."""
    histogram._sum.inc(sum(values))
    places = Counter(bisect_left(histogram._upper_bounds, value) for value in values)
    for place, count in places.items():
        histogram._buckets[place].inc(count)


def metric_files(folder: Path, pid: int) -> Iterable[Path]:
    """The files that a process maps its metrics into, in prometheus_client's multi-process mode."""
    return folder.glob(f"*_{pid}.db")


def serve_by(protocol: str) -> None:
    """Have the uvicorn server that this process will start use a protocol, ``module:class``."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = protocol


def response_started(protocol: HttpToolsProtocol) -> bool:
    """Whether the request at hand has got the beginning of its answer."""
    return bool(protocol.cycle.response_started)
