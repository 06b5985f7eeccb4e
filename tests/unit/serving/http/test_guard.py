"""The guard: who gets through to what, and how much of a request is taken in."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from bento_selfheal.config.settings import Settings
from bento_selfheal.serving.http import encoding, guard
from bento_selfheal.serving.http.access_rules import (
    ANY,
    OPEN,
    OPEN_BELOW,
    OPERATE,
    ByOrigin,
    ByToken,
)
from bento_selfheal.serving.http.access_rules import needs as needs_of
from bento_selfheal.serving.http.auth import ASKED_BY, Role, Tokens
from bento_selfheal.serving.http.guard import Guard

TOKENS = {role: f"{role}-0123456789abcdef" for role in Role}
PREDICT, FEEDBACK = frozenset({Role.PREDICT}), frozenset({Role.FEEDBACK})
MOST = 1000


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who asks and what came."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    said = b"%s:%d" % (ASKED_BY.get().encode(), len(body))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": said})


def guarded(rule: Any = None) -> Guard:
    return Guard(behind, most=MOST, rule=rule, server="s", count=lambda _: None)


def ask(app: Guard, method: str, path: str, content: Any = b"", **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as http:
            named = {k.replace("_", "-"): v for k, v in headers.items()}
            return await http.request(method, path, content=content, headers=named)

    return asyncio.run(once())


# -- roles ----------------------------------------------------------------------------------------


@pytest.fixture(params=["", "/clf"], ids=["no prefix", "a prefix"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def by_token(prefix: str = "", *, metrics: bool = False, cors: bool = False) -> ByToken:
    given = {f"{role}_tokens": f"{role}-desk={token}" for role, token in TOKENS.items()}
    return ByToken(
        Tokens(Settings(**given)),
        {**needs_of(prefix, metrics=metrics), "/mine": PREDICT},
        tuple(prefix + path for path in OPEN_BELOW),
        cors=cors,
    )


@pytest.mark.parametrize(
    ("path", "need"),
    [
        ("/predict", PREDICT), ("/feedback", FEEDBACK), ("/status", OPERATE), ("/events", OPERATE),
        ("/review", FEEDBACK),
        ("/rollback", OPERATE), ("/heal", OPERATE), ("/metrics", OPERATE), ("/nowhere", OPERATE),
        ("/predict/", OPERATE), ("/x//predict", OPERATE), ("/selfhealing", OPERATE),
        ("/selfheal/page.js", OPEN), ("/selfheal", OPEN), ("/livez", OPEN), ("/readyz", OPEN),
        ("/healthz", OPEN), ("/", ANY), ("/docs.json", ANY),
    ],
)  # fmt: skip
def test_roles(prefix: str, path: str, need: frozenset[Role]) -> None:
    """Each path lets in the role that it asks for, and no other; what nobody named is closed."""
    app = guarded(by_token(prefix))
    for role, token in TOKENS.items():
        response = ask(app, "POST", prefix + path, Authorization=f"Bearer {token}")
        if not need:
            assert response.text == "operator:0"
        elif role in need:
            assert response.text == f"{role}-desk:0"
        else:
            assert response.status_code == 403
            assert f"has not the role {' or '.join(sorted(need))}" in response.json()["error"]
            assert "insufficient_scope" in response.headers["WWW-Authenticate"]
    alone = ask(app, "GET", prefix + path)
    assert alone.status_code == (401 if need else 200)
    assert not need or alone.headers["WWW-Authenticate"] == "Bearer"
    unknown = ask(app, "GET", prefix + path, Authorization="Bearer 0123456789abcdef0123")
    assert unknown.status_code == (401 if need else 200)
    assert not need or 'error="invalid_token"' in unknown.headers["WWW-Authenticate"]


def test_open_metrics() -> None:
    """/metrics may be opened to a scraper without a token."""
    assert ask(guarded(by_token(metrics=True)), "GET", "/metrics").status_code == 200


def test_own_path() -> None:
    """A user's own endpoint asks for the role that he names."""
    token = {"Authorization": f"Bearer {TOKENS[Role.PREDICT]}"}
    assert ask(guarded(by_token()), "POST", "/mine", **token).status_code == 200


def test_preflight() -> None:
    """With CORS on a browser's question for leave needs no token; nothing else is let through."""
    asked = {"Origin": "http://page", "Access_Control_Request_Method": "POST"}
    assert ask(guarded(by_token(cors=True)), "OPTIONS", "/predict", **asked).status_code == 200
    assert ask(guarded(by_token(cors=True)), "OPTIONS", "/predict").status_code == 401
    assert ask(guarded(by_token()), "OPTIONS", "/predict", **asked).status_code == 401


def test_websocket() -> None:
    """A WebSocket of a user's own needs a token like everything else."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError

    scope = {"type": "websocket", "path": "/mine", "headers": []}
    asyncio.run(guarded(by_token())(scope, receive, send))
    assert [m["type"] for m in sent] == ["websocket.close"]


# -- without tokens -------------------------------------------------------------------------------

LOCAL = ByOrigin(names=False, allowed=lambda origin: origin == "http://friend")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:3000", "Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Origin": "https://127.0.0.1:3000"}, 200),
        ({"Origin": "http://friend", "Sec_Fetch_Site": "cross-site"}, 200),
        ({"Origin": "http://stranger"}, 403),
        ({"Origin": "http://127.0.0.1:8000", "Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
    ],
)
def test_cross_site(headers: dict[str, str], status: int) -> None:
    """A page of another site changes nothing by way of this machine's browser, unless CORS lets
    it; programs, which name no origin, do. To ask for rows to label is a change, too."""
    assert ask(guarded(LOCAL), "POST", "/rollback", **headers).status_code == status
    assert ask(guarded(LOCAL), "GET", "/status", **headers).status_code == 200
    assert ask(guarded(LOCAL), "GET", "/fraud/review", **headers).status_code == status


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True), ("localhost:3000", True), ("127.0.0.1:3000", True), ("[::1]", True),
        ("[::1]:3000", True), ("app.localhost:3000", True), ("10.0.0.7", True), ("LOCALHOST", True),
        ("stranger.example", False), ("stranger.example:3000", False),
        ("127.0.0.1.stranger.example", False), ("localhost.stranger.example:3000", False),
        ("[::1].stranger.example", False),
    ],
)  # fmt: skip
def test_rebinding(host: str, here: bool) -> None:
    """A stranger's name that now leads here is not answered, not even to be read."""
    for method in ("GET", "POST"):
        asked = {"Host": host, "Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
        assert ask(guarded(LOCAL), method, "/status", **asked).status_code == (200 if here else 403)
    named = ByOrigin(names=True, allowed=lambda _: False)
    assert ask(guarded(named), "GET", "/status", Host=host).status_code == 200


# -- bodies ---------------------------------------------------------------------------------------


async def pieces(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"a" * size


@pytest.mark.parametrize("content", [b"a" * MOST, lambda: pieces(MOST - 1, 1), b""])
def test_body(content: Any) -> None:
    """A body up to the limit gets through whole, in one piece or several."""
    expected = 0 if content == b"" else MOST
    content = content() if callable(content) else content
    assert ask(guarded(), "POST", "/predict", content).text == f"operator:{expected}"


class Client:
    """A client whose messages come as it is told, and what it gets."""

    def __init__(self, *messages: Message, length: int | None = None) -> None:
        self._messages = list(messages)
        coding = (b"transfer-encoding", b"chunked")
        header = coding if length is None else (b"content-length", str(length).encode())
        self.scope: Scope = {"type": "http", "method": "POST", "path": "/predict",
                             "headers": [header]}  # fmt: skip
        self.taken = 0
        self.got: list[Message] = []

    async def receive(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.got.append(message)

    async def meets(self, app: Guard) -> int:
        await app(self.scope, self.receive, self.send)
        return int(self.got[0]["status"]) if self.got else 0


def part(size: int, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": b"a" * size, "more_body": more}


def test_announced_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is announced as too large is refused before any of it is taken in."""
    monkeypatch.setattr(guard, "LINGER_SECONDS", 0.01)
    client = Client(length=MOST + 1)
    assert asyncio.run(client.meets(guarded())) == 413
    assert client.taken == 0
    assert b"connection" in dict(client.got[0]["headers"])
    assert b"too_large" in client.got[1]["body"]


def test_too_large_in_pieces() -> None:
    """A body without an announced size is refused at the piece that goes over the limit; what is
    left of it is thrown away, so that the client gets to read why."""
    client = Client(part(MOST), part(1), part(MOST), part(9, more=False))
    assert asyncio.run(client.meets(guarded())) == 413
    assert client.taken == 4
    assert [m.get("more_body") for m in client.got[1:]] == [True, False]


def test_gone() -> None:
    """A client that leaves before its body is whole gets nothing, and nothing is answered."""
    client = Client(part(1), {"type": "http.disconnect"})
    assert asyncio.run(client.meets(guarded())) == 0


def test_bodies_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unfinished bodies of many clients take a bounded share of memory together; when they are
    gone, others are taken again."""
    monkeypatch.setattr(guard, "LINGER_SECONDS", 0.01)
    app = guarded()

    async def all_at_once() -> int:
        slow = [Client(part(MOST)) for _ in range(guard.HELD_BODIES)]
        tasks = [asyncio.create_task(client.meets(app)) for client in slow]
        while not all(client.taken for client in slow):
            await asyncio.sleep(0)
        status = await Client(part(MOST), part(MOST, more=False)).meets(app)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return status

    assert asyncio.run(all_at_once()) == 503
    assert asyncio.run(Client(part(1), part(1, more=False)).meets(app)) == 200


def test_refusals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What was refused is said, but not for each request, and no token with it."""
    app = guarded(by_token())
    for _ in range(5):
        ask(app, "GET", "/status", Authorization="Bearer secret-0123456789abcdef")
    assert caplog.text.count("refused") == 1
    assert "GET '/status'" in caplog.text
    assert "secret" not in caplog.text


def test_a_content_type_that_is_not_ascii() -> None:
    """It comes through with question marks, for BentoML's access log could not write it."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"])[b"content-type"])
        await behind(scope, receive, send)

    there = Guard(app, most=MOST, rule=None, server="s", count=lambda _: None)
    for kind in (b"application/json; x=\xe9", b"application/json"):
        named: Any = {"content_type": kind}
        assert ask(there, "POST", "/feedback", b"{}", **named).status_code == 200
    assert seen == [b"application/json; x=?", b"application/json"]


# -- encodings ------------------------------------------------------------------------------------


def ask_packed(content: bytes, encoding: str) -> httpx.Response:
    return ask(guarded(), "POST", "/predict", content, content_encoding=encoding)


@pytest.mark.parametrize("size", [0, 1, MOST])
def test_gzip(size: int) -> None:
    """A gzip body is handed on unpacked, up to the limit."""
    assert ask_packed(gzip.compress(b"a" * size), "gzip").text == f"operator:{size}"
    assert ask_packed(b"a" * size, "identity").text == f"operator:{size}"


def test_what_is_behind_sees_a_plain_request() -> None:
    """Nothing behind the guard unpacks a second time, or waits for a body of the packed size."""
    seen: dict[bytes, bytes] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope["headers"])
        await behind(scope, receive, send)

    there = Guard(app, most=MOST, rule=None, server="s", count=lambda _: None)
    ask(there, "POST", "/predict", gzip.compress(b"a" * 500), content_encoding="GZIP")
    assert (seen[b"content-length"], seen.get(b"content-encoding")) == (b"500", None)


def test_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts what is unpacked, and no more than that is unpacked."""
    monkeypatch.setattr(guard, "LINGER_SECONDS", 0.01)
    bomb = gzip.compress(bytes(500 * MOST))
    assert len(bomb) < MOST
    assert ask_packed(bomb, "gzip").status_code == 413
    assert encoding.unpack(bomb, MOST) == bytes(MOST + 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{}", "incorrect header"), (gzip.compress(b"a" * 99, mtime=0)[:-1], "it ends early"),
        (gzip.compress(b"a", mtime=0) * 2, "something follows its end"),
    ],
)  # fmt: skip
def test_bad_gzip(content: bytes, why: str) -> None:
    """A body that is not one whole gzip stream is a 400 that says so."""
    answer = ask_packed(content, "gzip")
    assert answer.status_code == 400
    assert why in answer.json()["error"]


@pytest.mark.parametrize("named", ["br", "gzip, gzip", "zzz"])
def test_other_encodings(named: str) -> None:
    """Any other encoding is a 415 that names it and what is taken."""
    answer = ask_packed(b"{}", named)
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "gzip"
    assert repr(named) in answer.json()["error"]
