"""The lane: what it answers, what it leaves to the app behind, and what stays around it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from bento_selfheal.serving.http.fast_path import FastPath
from bento_selfheal.serving.http.replies import Reply

seen: list[tuple[str, bytes]] = []


async def answer(headers: Mapping[str, str], body: bytes) -> Reply | None:
    """Bodies that begin with x are not for the lane."""
    if body.startswith(b"x"):
        return None
    if body == b"bug":
        raise RuntimeError("nobody foresaw this")
    seen.append((headers.get("content-type", ""), body))
    return Reply(b"lane", 201, headers={"selfheal-request": "abc"})


async def behind(request: Request) -> Response:
    return PlainTextResponse(b"behind " + await request.body())


def lane(*middleware: Middleware) -> FastPath:
    methods = ["GET", "POST"]
    routes = [Route("/predict", behind, methods=methods), Route("/other", behind, methods=methods)]
    app = Starlette(routes=routes, middleware=list(middleware))
    return FastPath(app, path="/predict", answer=answer, server="s", traced=False, logged=False,
                    own_middleware=True)  # fmt: skip


def ask(app: FastPath, method: str, path: str, content: Any = b"", **headers: str) -> Any:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, content=content, headers=headers)

    return asyncio.run(once())


def test_answers() -> None:
    """POST to its path is answered from bytes to bytes, with its own headers and status."""
    seen.clear()
    response = ask(lane(), "POST", "/predict", b"rows", **{"Content-Type": "a/b"})
    assert (response.status_code, response.content) == (201, b"lane")
    assert response.headers["selfheal-request"] == "abc"
    assert (response.headers["server"], response.headers["content-length"]) == ("s", "4")
    assert seen == [("a/b", b"rows")]


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("POST", "/other")])
def test_leaves_the_rest(method: str, path: str) -> None:
    """Another method or path never reaches the lane."""
    assert ask(lane(), method, path, b"rows").content == b"behind rows"


def test_hands_on() -> None:
    """What the lane does not answer gets to the app behind with its body."""
    assert ask(lane(), "POST", "/predict", b"xyz").content == b"behind xyz"


def test_bug(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is a 500 in BentoML's words, with the reason in the log alone."""
    response = ask(lane(), "POST", "/predict", b"bug")
    assert response.status_code == 500
    assert "check the server log" in response.json()["error"]
    assert "nobody foresaw this" in caplog.text


def test_client_gone() -> None:
    """A client that has left gets nothing, and nothing is answered."""
    seen.clear()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    asyncio.run(lane()(scope, receive, send))
    assert seen == []


def test_middleware_stays() -> None:
    """CORS and the user's own middleware stand around the lane as around everything else."""
    cors = Middleware(CORSMiddleware, allow_origins=["http://page"])
    response = ask(lane(cors), "POST", "/predict", b"rows", Origin="http://page")
    assert response.content == b"lane"
    assert response.headers["access-control-allow-origin"] == "http://page"
