"""BentoML's request metrics: as many series as routes, whatever paths are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from bento_selfheal.internals import RunnerTrafficMetricsMiddleware
from bento_selfheal.serving.http import request_metrics
from bento_selfheal.serving.http.request_metrics import UNKNOWN, by_route, route_of


async def here(request: Request) -> Response:
    """Says which path it sees."""
    return PlainTextResponse(request.url.path)


def application(prefix: str = "") -> Any:
    """Routes as a service has them: endpoints, files, and an application of the user's own."""
    own, included = FastAPI(), APIRouter()

    @included.get("/{name}")
    def included_file(name: str) -> str:
        return name

    own.include_router(included, prefix="/included")

    @own.get("/items/{item}")
    def item(item: str) -> str:
        return item

    routes = [
        Route(f"{prefix}/predict", here, methods=["POST"]),
        Mount(f"{prefix}/own", own),
        Mount(f"{prefix}/selfheal", StaticFiles(directory=Path(__file__).parent)),
        WebSocketRoute(f"{prefix}/socket", here),
    ]
    return Starlette(routes=routes, middleware=[Middleware(RunnerTrafficMetricsMiddleware)])


@pytest.mark.parametrize("prefix", ["", "/clf"])
@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/predict", "/predict"), ("GET", "/predict", "/predict"),
        ("HEAD", "/predict", "/predict"), ("GET", "/own/items/7", "/own/items/{item}"),
        ("DELETE", "/own/items/7", "/own/items/{item}"), ("GET", "/own/nowhere", UNKNOWN),
        ("GET", "/own/included/x", "/own/{path}"),
        ("GET", "/selfheal/page.js", "/selfheal/{path}"),
        ("GET", "/selfheal/xxx", "/selfheal/{path}"), ("GET", "/nowhere", UNKNOWN),
        ("BREW", "/predict/", UNKNOWN), ("GET", "//predict", UNKNOWN), ("GET", "/socket", UNKNOWN),
    ],
)  # fmt: skip
def test_route_of(prefix: str, method: str, path: str, route: str) -> None:
    """A path is counted under its route, and without one under one name, whatever the method."""
    scope = {"type": "http", "method": method, "path": prefix + path, "headers": []}
    expected = route if route == UNKNOWN else prefix + route
    assert route_of(application(prefix).routes, scope) == expected


def test_websocket() -> None:
    """A WebSocket is counted under its route too."""
    scope = {"type": "websocket", "path": "/socket", "headers": []}
    assert route_of(application().routes, scope) == "/socket"


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """BentoML's middleware with metrics of the test's own; gives the endpoints counted so far."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

    registry = CollectorRegistry()

    class Client:
        def __getattr__(self, kind: str) -> Any:
            made = {"Counter": Counter, "Gauge": Gauge, "Histogram": Histogram, "Summary": Summary}
            return lambda **named: made[kind](**named, registry=registry)

    real = RunnerTrafficMetricsMiddleware._setup
    monkeypatch.setattr(
        RunnerTrafficMetricsMiddleware, "_setup",
        lambda self: real(self, metrics_client=Client(), duration_buckets=(1.0,)),
    )  # fmt: skip
    return lambda: {
        sample.labels["endpoint"]
        for metric in registry.collect()
        for sample in metric.samples
        if "endpoint" in sample.labels
    }


def test_unknown_paths_make_no_series(metered: Callable[[], set[str]]) -> None:
    """However many paths are asked for, with whatever method: the series are those of the routes,
    and the application still sees the path as it was asked."""
    app = application()
    by_route(app)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            for i in range(50):
                for place in ("", "/selfheal", "/own", "/own/items", "/own/included", "/predict"):
                    await client.request(("GET", "PUT", "OPTIONS")[i % 3], f"{place}/x{i}")
            return [await client.post("/predict"), await client.get("/own/items/7")]

    known, item = asyncio.run(ask())
    assert (known.text, item.json()) == ("/predict", "7")
    assert metered() == {
        "/predict",
        "/selfheal/{path}",
        "/own/items/{item}",
        "/own/{path}",
        UNKNOWN,
    }


def test_bentoml_middleware_is_replaced() -> None:
    """The one that counts by path is gone; everything else of the application's stays."""
    app = application()
    app.user_middleware.append(Middleware(httpx.ASGITransport))
    by_route(app)
    assert [m.cls for m in app.user_middleware] == [
        request_metrics.RouteMetrics, httpx.ASGITransport,
    ]  # fmt: skip
