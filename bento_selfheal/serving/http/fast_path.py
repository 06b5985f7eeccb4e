"""The fast path of an endpoint: the same answer without the parts of BentoML's stack that cost.

BentoML's own stack takes some 0.6 ms per request: an access log line, an OpenTelemetry span that is
not recorded, a timer that nobody cancels, a pydantic model each way. The fast path stands in front
of it, keeps what a user has asked for (tracing, the access log, CORS, own middleware, BentoML's
request metrics), and hands every request that is not plain to BentoML, body and all.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from timeit import default_timer
from typing import Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from bento_selfheal.internals import (
    UNFORESEEN,
    AccessLogMiddleware,
    ContextMiddleware,
    RunnerTrafficMetricsMiddleware,
    TimeoutMiddleware,
    get_route_path,
)
from bento_selfheal.serving.http.guard import again
from bento_selfheal.serving.http.replies import Reply
from bento_selfheal.serving.http.request_metrics import RequestCounts

log = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, str], bytes], Awaitable[Reply | None]]
"""Headers, in lower case, and body in; None hands the request to BentoML."""


class FastPath:
    """ASGI application: POST to one path is answered here, everything else by the app behind.

    It stands behind the guard, so a request comes with its whole body.

    Args:
        app: BentoML's application, a Starlette one.
        path: The path with the service's prefix.
        answer: Answers one request, or gives None where the service is not ready or the fast path
            does not apply. It must wait for nothing but its turn.
        server: Value of the ``Server`` header, as BentoML gives it.
        traced: Whether spans are recorded at all.
        logged: Whether predictions are wanted in the access log.
        own_middleware: Whether the user has added middleware, which may need BentoML's context.
        kinds: Content types that are answered here, in small letters; all where it is None.
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
        kinds: Collection[str] | None = None,
    ) -> None:
        self._app = app
        self._kinds = kinds
        self._path = path
        self._answer = answer
        self._server = (b"server", server.encode())
        self._counts: RequestCounts | None = None
        needless = [RunnerTrafficMetricsMiddleware, TimeoutMiddleware]
        needless += [] if own_middleware else [ContextMiddleware]
        needless += [] if traced else [OpenTelemetryMiddleware]
        needless += [] if logged else [AccessLogMiddleware]
        self._wrapped = _wrapped(self._respond, app.user_middleware, tuple(needless))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_ours(scope):
            await self._wrapped(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        if (
            scope["type"] != "http"
            or get_route_path(scope) != self._path
            or scope["method"] != "POST"
        ):
            return False
        return self._kinds is None or media_type(Headers(scope=scope)) in self._kinds

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = default_timer()
        message = await receive()
        if message["type"] != "http.request":
            return  # the client has gone
        body = message["body"]
        reply = await self._answer_or_fail(Headers(scope=scope), body)
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
            self._counts = RequestCounts(self._app)
        path = scope.get("root_path", "") + self._path
        self._counts.count(path, reply.status, default_timer() - start)

    async def _answer_or_fail(self, headers: Headers, body: bytes) -> Reply | None:
        try:
            return await self._answer(headers, body)
        except Exception:
            log.exception("POST %s failed", self._path)
            return Reply(UNFORESEEN, 500)


def media_type(headers: Mapping[str, str]) -> str:
    """The Content-Type without its parameters, in small letters; empty where there is none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _wrapped(
    endpoint: ASGIApp, middleware: Iterable[Middleware], needless: tuple[Any, ...]
) -> ASGIApp:
    """BentoML's middleware around our endpoint, in its order, less what is needless."""
    for layer in reversed(list(middleware)):
        if not (isinstance(layer.cls, type) and issubclass(layer.cls, needless)):
            endpoint = layer.cls(endpoint, *layer.args, **layer.kwargs)
    return endpoint
