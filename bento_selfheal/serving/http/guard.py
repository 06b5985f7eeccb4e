"""In front of everything: who may ask what, and how large a request may be.

One ASGI layer around the fast lane, BentoML's own endpoints and what is mounted beside them. A path
that nobody named needs a token that may operate, so that what is added later is closed at first.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from bento_selfheal.serving.http.auth import ASKED_BY, Role, Tokens

log = logging.getLogger(__name__)

OPEN: frozenset[Role] = frozenset()
ANY = frozenset(Role)
OPERATE = frozenset({Role.OPERATE})
OPEN_BELOW = ("/selfheal/", "/static_content/")
"""Files of the page and of BentoML's API page: what they show, they have to ask for."""
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]]*)(:[0-9]+)?")
SAFE = {"GET", "HEAD", "OPTIONS"}
LINGER_SECONDS = 2.0
"""How long what is left of a refused body is taken in: to close on a client that still writes may
cost it the answer."""
SAY_SECONDS = 10.0
"""Seconds between two log lines on what was refused."""
HELD_BODIES = 8
"""Unfinished bodies that a worker holds, in units of the largest one."""


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the application's."""

    status: int
    error: str
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    """Where the body is wrong: the kind, as errors of validation have one."""

    @property
    def body(self) -> bytes:
        """As JSON, in the shape that other errors have."""
        said: dict[str, Any] = {"error": self.error}
        if self.kind:
            said["detail"] = [{"loc": ["body"], "msg": self.error, "type": self.kind}]
        return json.dumps(said).encode()


GONE = Refusal(0, "the client has gone")
Rule = Callable[[Scope, Mapping[bytes, bytes]], Refusal | None]


class Guard:
    """ASGI application: refuses, or hands a request with its whole body to the one behind.

    Args:
        app: What is guarded.
        most: Bytes of the largest body that is taken in.
        rule: Who may ask what; None where only processes of this service ask.
        server: Value of the ``Server`` header, as BentoML gives it.
        count: Told the status of each refusal.
    """

    def __init__(
        self, app: Any, *, most: int, rule: Rule | None, server: str, count: Callable[[int], None]
    ) -> None:
        self._app = app
        self._most = most
        self._rule = rule
        self._server = server
        self._count = count
        self._held = 0
        self._refused = 0
        self._said = -SAY_SECONDS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refusal = None if self._rule is None else self._rule(scope, headers)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": refusal.error})
            return
        if refusal is None and (b"content-length" in headers or b"transfer-encoding" in headers):
            body = await self._body(headers, receive)
            if isinstance(body, bytes):
                receive = again(body, receive)
            else:
                refusal = body
        if refusal is None:
            await self._app(scope, receive, send)
        elif refusal is not GONE:
            self._count(refusal.status)
            self._say(scope, refusal)
            await self._refuse(refusal, receive, send)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | Refusal:
        """The whole body, or why it is not taken."""
        if int(headers.get(b"content-length", b"0")) > self._most:
            return self._too_large()
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message["body"]
            return whole if len(whole) <= self._most else self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            while message["type"] == "http.request":
                parts.append(message["body"])
                size += len(parts[-1])
                self._held += len(parts[-1])
                if size > self._most:
                    return self._too_large()
                if self._held > HELD_BODIES * self._most:
                    return Refusal(503, "too many bodies come in at once", {"Retry-After": "1"})
                if not message.get("more_body"):
                    return b"".join(parts)
                message = await receive()
        finally:
            self._held -= size
        return GONE

    def _too_large(self) -> Refusal:
        megabytes = self._most / 1e6
        return Refusal(413, f"the body is larger than {megabytes:g} MB", kind="too_large")

    def _say(self, scope: Scope, refusal: Refusal) -> None:
        """Log what was refused, but not each: a flood must not fill the disk."""
        self._refused += 1
        now = time.monotonic()
        if now - self._said >= SAY_SECONDS:
            asked = f"{scope['method']} {scope['path'][:100]!r}"
            log.warning("%d refused, the last %s: %s", self._refused, asked, refusal.error)
            self._refused, self._said = 0, now

    async def _refuse(self, refusal: Refusal, receive: Receive, send: Send) -> None:
        body = refusal.body
        ends = refusal.status in (413, 503)
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "server": self._server,
            **refusal.headers,
            **({"connection": "close"} if ends else {}),
        }
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
        await send({"type": "http.response.body", "body": body, "more_body": ends})
        if ends:
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while (await receive()).get("more_body"):
                        pass
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class ByToken:
    """The rule where there are tokens.

    Args:
        tokens: Those in force.
        needs: Roles of which a path asks for one; any other path asks for `Role.OPERATE`.
        open_below: Folders of files that everybody may have.
        cors: Whether CORS is on: browsers ask for leave without a token, and it answers them.
    """

    def __init__(
        self,
        tokens: Tokens,
        needs: Mapping[str, frozenset[Role]],
        open_below: tuple[str, ...],
        *,
        cors: bool,
    ) -> None:
        self._tokens = tokens
        self._needs = needs
        self._open_below = open_below
        self._cors = cors

    def __call__(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Refusal | None:
        need = self._need(scope["path"])
        if not need or (self._cors and _is_preflight(scope, headers)):
            return None
        given = headers.get(b"authorization", b"")
        caller = self._tokens.find(given)
        if caller is None:
            if given:
                challenge, error = 'Bearer error="invalid_token"', "this token is not known here"
            else:
                challenge, error = "Bearer", "a bearer token is needed"
            return Refusal(401, error, {"WWW-Authenticate": challenge})
        if not need & caller.roles:
            roles = " or ".join(sorted(need))
            return Refusal(
                403, f"the token {caller.name!r} may not {roles}",
                {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{roles}"'},
            )  # fmt: skip
        ASKED_BY.set(caller.name)
        return None

    def _need(self, path: str) -> frozenset[Role]:
        need = self._needs.get(path)
        if need is not None:
            return need
        return OPEN if path.startswith(self._open_below) else OPERATE


class ByOrigin:
    """The rule without tokens: pages of other sites may not use this machine's browsers.

    Args:
        names: Whether any name may stand in ``Host``. Otherwise only names of this machine: one of
            a stranger's domain that now leads here would make a page of his one of ours.
        allowed: Whether CORS allows an origin.
    """

    def __init__(self, *, names: bool, allowed: Callable[[str], bool]) -> None:
        self._names = names
        self._allowed = allowed

    def __call__(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Refusal | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._names and not _is_here(host):
            return Refusal(403, "without tokens only names of this machine are answered to")
        if scope.get("method") in SAFE:  # a WebSocket has none
            return None
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        site = headers.get(b"sec-fetch-site", b"same-origin")
        # Behind a proxy that ends TLS both have one host and another scheme.
        same = origin.partition("://")[2] == host if origin else site in (b"same-origin", b"none")
        if same or (origin and self._allowed(origin)):
            return None
        return Refusal(403, "a page of another site may not ask this")


def needs(prefix: str, *, metrics: bool) -> dict[str, frozenset[Role]]:
    """What the service's own paths ask for.

    Args:
        prefix: The service's path prefix.
        metrics: Whether ``/metrics`` is open.
    """
    open_paths = ["/livez", "/readyz", "/healthz", "/selfheal", *(["/metrics"] if metrics else [])]
    return {
        **{prefix + path: OPEN for path in open_paths},
        **{prefix + path: ANY for path in ("/", "/docs.json")},
        "/schema.json": ANY,  # BentoML puts no prefix here
        f"{prefix}/predict": frozenset({Role.PREDICT}),
        f"{prefix}/feedback": frozenset({Role.FEEDBACK}),
    }


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a whole body before it goes on."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _is_preflight(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    return scope.get("method") == "OPTIONS" and b"access-control-request-method" in headers


@lru_cache(256)
def _is_here(host: str) -> bool:
    """Whether a ``Host`` header names this machine: by an address, or a name of its own."""
    parts = HOST.fullmatch(host)
    if parts is None:
        return False
    name = parts["name"].strip("[]")
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
