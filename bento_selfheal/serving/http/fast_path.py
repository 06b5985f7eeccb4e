"""The fast lane of `/predict`: the same answer without the parts of BentoML's stack that only cost.

BentoML's own stack takes some 0.6 ms a request: an access log line, an OpenTelemetry span that is
not recorded, a timer that nobody cancels, a pydantic model each way. The lane stands in front of
it, keeps what a user has asked for (tracing, the access log, CORS, own middleware, BentoML's
request metrics), and hands every request that is not plain to BentoML, body and all.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from timeit import default_timer
from typing import Any

from _bentoml_impl.server.app import ContextMiddleware
from bentoml._internal.context import server_context
from bentoml._internal.server.http.access import AccessLogMiddleware
from bentoml._internal.server.http.instruments import RunnerTrafficMetricsMiddleware
from bentoml._internal.server.http.traffic import TimeoutMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from bento_selfheal.serving.http.guard import again

log = logging.getLogger(__name__)

TELL_SECONDS = 0.25
UNFORESEEN = b'{"error":"An unexpected error has occurred, please check the server log."}'


@dataclass(frozen=True)
class Reply:
    """An answer as bytes."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Mapping[str, str], bytes], Reply | None]
"""Headers, with small letters, and body in; None hands the request to BentoML."""


class FastPath:
    """ASGI application: POST to one path is answered here, everything else by the app behind.

    Behind the guard: a request comes with its whole body.

    Args:
        app: BentoML's application, a Starlette one.
        path: The path with the service's prefix.
        answer: Answers one request, or None where the service is not ready or the lane is not for
            this request. It must not wait.
        server: Value of the ``Server`` header, as BentoML gives it.
        traced: Whether spans are recorded at all.
        logged: Whether predictions are wanted in the access log.
        own_middleware: Whether the user has added middleware, which may ask for BentoML's context.
    """

    def __init__(
        self,
        app: Any,
        *,
        path: str,
        answer: Handler,
        server: str,
        traced: bool,
        logged: bool,
        own_middleware: bool,
    ) -> None:
        self._app = app
        self._path = path
        self._answer = answer
        self._server = (b"server", server.encode())
        self._counts: RequestCounts | None = None
        needless = {RunnerTrafficMetricsMiddleware, TimeoutMiddleware}
        needless |= set() if own_middleware else {ContextMiddleware}
        needless |= set() if traced else {OpenTelemetryMiddleware}
        needless |= set() if logged else {AccessLogMiddleware}
        self._lane = _wrapped(self._respond, app.user_middleware, needless)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST":
            await self._lane(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = default_timer()
        message = await receive()
        if message["type"] != "http.request":
            return  # the client has gone
        body = message["body"]
        reply = self._answer_or_fail(Headers(scope=scope), body)
        if reply is None:
            await self._app(scope, again(body, receive), send)
            return
        headers = [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", str(len(reply.body)).encode()),
            self._server,
            *((name.encode(), value.encode()) for name, value in reply.headers.items()),
        ]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        if self._counts is None:
            self._counts = RequestCounts(self._app, self._path)
        self._counts.count(reply.status, default_timer() - start)

    def _answer_or_fail(self, headers: Headers, body: bytes) -> Reply | None:
        try:
            return self._answer(headers, body)
        except Exception:
            # BentoML answers what nobody foresaw in these words.
            log.exception("POST %s failed", self._path)
            return Reply(UNFORESEEN, 500)


class RequestCounts:
    """BentoML's own request metrics, for requests that its middleware does not see.

    Args:
        app: BentoML's application, which has served a request or its start already.
        path: The endpoint that they are counted under.
    """

    def __init__(self, app: Any, path: str) -> None:
        self._metrics = _metrics_of(app)
        self._labels = {
            "service_name": server_context.bento_name,
            "service_version": server_context.bento_version,
            "runner_name": server_context.service_name,
        }
        self._path = path
        self._by_status: dict[int, tuple[Any, Any]] = {}
        self._untold: dict[int, list[float]] = defaultdict(list)
        if self._metrics is not None:
            self._last = self._metrics.metrics_last_request_timestamp.labels(**self._labels)

    def count(self, status: int, seconds: float) -> None:
        """Note one request that was answered, on the event loop; what comes soon after is told
        together with it, for each figure told is a write to a file that processes share."""
        if self._metrics is None:
            return
        if not self._untold:
            asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)
        self._untold[status].append(seconds)

    def _tell(self) -> None:
        for status, seconds in self._untold.items():
            if status not in self._by_status:
                labels = {**self._labels, "endpoint": self._path, "http_response_code": status}
                self._by_status[status] = (
                    self._metrics.metrics_request_total.labels(**labels),
                    self._metrics.metrics_request_duration.labels(**labels),
                )
            total, duration = self._by_status[status]
            total.inc(len(seconds))
            _observe_all(duration, seconds)
        self._untold.clear()
        self._last.set_to_current_time()


def _observe_all(histogram: Any, values: list[float]) -> None:
    """`observe` of each value; prometheus_client has no public way to take many at once."""
    histogram._sum.inc(sum(values))
    places = Counter(bisect_left(histogram._upper_bounds, value) for value in values)
    for place, count in places.items():
        histogram._buckets[place].inc(count)


def _wrapped(endpoint: ASGIApp, middleware: Iterable[Middleware], needless: set[Any]) -> ASGIApp:
    """BentoML's middleware around our endpoint, in its order, less what is needless."""
    for layer in reversed(list(middleware)):
        if layer.cls not in needless:
            endpoint = layer.cls(endpoint, *layer.args, **layer.kwargs)
    return endpoint


def _metrics_of(app: Any) -> Any:
    """BentoML's metrics middleware in the built stack; None where metrics are off."""
    layer = app.middleware_stack
    while layer is not None and not isinstance(layer, RunnerTrafficMetricsMiddleware):
        layer = getattr(layer, "app", None)
    if layer is not None and not layer._is_setup:
        layer._setup()
    return layer
