"""BentoML's own request metrics: one series per route, and counted for the fast path as well.

BentoML makes a series of every path that is asked for, also of those that are not there; whoever
asks for enough of them would fill the worker's memory.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from bento_selfheal.internals import (
    RunnerTrafficMetricsMiddleware,
    observe_all,
    request_labels,
    request_metrics,
)

REPORT_SECONDS = 0.25
ANY = "/{path}"
UNKNOWN = "unknown"
"""The endpoint that requests for paths without a route are counted under."""
_ORIGINAL = "original_scope"


class RouteMetrics(RunnerTrafficMetricsMiddleware):  # type: ignore[misc]
    """BentoML's request metrics, with the route in place of the path.

    ``/items/7`` counts as ``/items/{item}``, a file of the page as ``/selfheal/{path}``, and
    whatever has no route as `UNKNOWN`: a worker has as many series as it has routes.

    Args:
        app: What is counted.
        routes: The application's routes.
        options: As BentoML gives them.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[BaseRoute], **options: Any) -> None:
        async def as_asked(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope.get(_ORIGINAL, scope), receive, send)

        super().__init__(as_asked, **options)
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request or a WebSocket, and hand it on unchanged."""
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, "path": self._endpoint(scope), _ORIGINAL: scope}
        await super().__call__(scope, receive, send)

    def _endpoint(self, scope: Scope) -> str:
        """The route, behind the path of its model where there are several."""
        route = route_of(self._routes, scope)
        below: str = scope.get("root_path", "")
        return route if route == UNKNOWN else below + route


def by_route(app: Any) -> None:
    """Have BentoML's application count its requests by route; call it before the first request."""
    counted: Any = RouteMetrics
    app.user_middleware = [
        Middleware(counted, *layer.args, routes=app.routes, **layer.kwargs)
        if layer.cls is RunnerTrafficMetricsMiddleware
        else layer
        for layer in app.user_middleware
    ]


def route_of(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """The route that answers a request, with the names of its parameters; `UNKNOWN` without one."""
    partial = UNKNOWN
    for route in routes:
        match, inner = route.matches(scope)
        found = UNKNOWN if match is Match.NONE else _named(route, {**scope, **inner})
        if found != UNKNOWN and match is Match.FULL:
            return found
        if partial == UNKNOWN:
            partial = found  # the path without the method
    return partial


def _named(route: BaseRoute, scope: Scope) -> str:
    path: str = getattr(route, "path", ANY)  # an included router of FastAPI's has none
    if not isinstance(route, Mount):
        return path
    if not route.routes:
        return path + ANY
    below = route_of(route.routes, scope)
    return UNKNOWN if below == UNKNOWN else path + below


class RequestCounts:
    """BentoML's request metrics, for requests that its middleware does not see.

    Args:
        app: BentoML's application, which has served a request or its start already.
    """

    def __init__(self, app: Any) -> None:
        self._metrics = request_metrics(app)
        self._labels = request_labels()
        self._figures: dict[tuple[str, int], tuple[Any, Any]] = {}
        self._waiting: dict[tuple[str, int], list[float]] = defaultdict(list)
        if self._metrics is not None:
            self._last = self._metrics.metrics_last_request_timestamp.labels(**self._labels)

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count one answered request under an endpoint, on the event loop.

        What comes soon afterwards is reported together with it: each figure that is reported is a
        write to a file that processes share.
        """
        if self._metrics is None:
            return
        if not self._waiting:
            asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        self._waiting[path, status].append(seconds)

    def _report(self) -> None:
        for (path, status), seconds in self._waiting.items():
            total, duration = self._figures_of(path, status)
            total.inc(len(seconds))
            observe_all(duration, seconds)
        self._waiting.clear()
        self._last.set_to_current_time()

    def _figures_of(self, path: str, status: int) -> tuple[Any, Any]:
        if (path, status) not in self._figures:
            labels = {**self._labels, "endpoint": path, "http_response_code": status}
            self._figures[path, status] = (
                self._metrics.metrics_request_total.labels(**labels),
                self._metrics.metrics_request_duration.labels(**labels),
            )
        return self._figures[path, status]
