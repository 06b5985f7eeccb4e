"""In front of everything: refuses what may not come in, and takes in bodies up to a size.

One ASGI layer around the fast path, BentoML's own endpoints and what is mounted beside them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from bento_selfheal.serving.http.access_rules import AccessRule, Refusal
from bento_selfheal.serving.http.encoding import (
    PACKED,
    encoding_of,
    unknown,
    unpack,
    unpacked,
)

log = logging.getLogger(__name__)

LINGER_SECONDS = 2.0
"""How long the rest of a refused body is still read: a client that is cut off while it writes may
never see the answer."""
LOG_SECONDS = 10.0
"""Seconds between two log lines about refused requests."""
HELD_BODIES = 8
"""Most bytes of unfinished bodies that a worker holds, in units of the largest body."""


TOO_MANY_BODIES = "too many large requests are arriving at once; send this one again"
GONE = Refusal(0, "the client has gone")


class Guard:
    """ASGI application: refuses, or hands a request with its whole body to the one behind.

    Args:
        app: The application behind.
        most: Bytes of the largest body that is accepted, counted as it comes and unpacked.
        rule: Which requests may reach what; None where only processes of this service connect.
        server: Value of the ``Server`` header, as BentoML gives it.
        count: Called with the status of each refusal.
    """

    def __init__(
        self,
        app: Any,
        *,
        most: int,
        rule: AccessRule | None,
        server: str,
        count: Callable[[int], None],
    ) -> None:
        self._app = app
        self._most = most
        self._rule = rule
        self._server = server
        self._count = count
        self._held = 0
        self._refused = 0
        self._logged = -LOG_SECONDS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        refusal = None if self._rule is None else self._rule(scope, headers)
        if not headers.get(b"content-type", b"").isascii():
            scope = _with_ascii_type(scope)
        if scope["type"] == "websocket":
            await self._websocket(refusal, scope, receive, send)
            return
        if refusal is None and (b"content-length" in headers or b"transfer-encoding" in headers):
            body = await self._plain_body(headers, receive)
            if isinstance(body, Refusal):
                refusal = body
            else:
                receive = again(body, receive)
                if encoding_of(headers) in PACKED:
                    scope = unpacked(scope, len(body))
        if refusal is None:
            await self._app(scope, receive, send)
        elif refusal is not GONE:
            self._count(refusal.status)
            self._log(scope, refusal)
            await self._refuse(refusal, receive, send)

    async def _websocket(
        self, refusal: Refusal | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.error})

    async def _plain_body(
        self, headers: Mapping[bytes, bytes], receive: Receive
    ) -> bytes | Refusal:
        """The whole body as it is without its encoding, or why it is refused."""
        encoding = encoding_of(headers)
        if (refusal := unknown(encoding)) is not None:
            return refusal
        body = await self._body(headers, receive)
        if encoding in PACKED and isinstance(body, bytes):
            body = unpack(body, self._most)
            if isinstance(body, bytes) and len(body) > self._most:
                return self._too_large()
        return body

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | Refusal:
        """The whole body as it comes, or why it is refused."""
        if int(headers.get(b"content-length", b"0")) > self._most:
            return self._too_large()
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message["body"]
            return whole if len(whole) <= self._most else self._too_large()
        return await self._rest(message, receive)

    async def _rest(self, message: Message, receive: Receive) -> bytes | Refusal:
        """The body that comes in pieces, of which this is the first."""
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
                    return Refusal(503, TOO_MANY_BODIES, {"Retry-After": "1"})
                if not message.get("more_body"):
                    return b"".join(parts)
                message = await receive()
        finally:
            self._held -= size
        return GONE

    def _too_large(self) -> Refusal:
        megabytes = self._most / 1e6
        return Refusal(
            413, f"the body is larger than the limit of {megabytes:g} MB", kind="too_large"
        )

    def _log(self, scope: Scope, refusal: Refusal) -> None:
        """Log refused requests, but not each one: a flood must not fill the disk."""
        self._refused += 1
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            asked = f"{scope['method']} {scope['path'][:100]!r}"
            log.warning(
                "%d requests refused, the last one %s: %s", self._refused, asked, refusal.error
            )
            self._refused, self._logged = 0, now

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


def _with_ascii_type(scope: Scope) -> Scope:
    """The same request with a question mark for what is not ASCII in its Content-Type.

    BentoML's access log fails on it once the answer is out, and the connection with it.
    """
    headers = [
        (k, v.decode("ascii", "replace").replace("\ufffd", "?").encode())
        if k == b"content-type" else (k, v)
        for k, v in scope["headers"]
    ]  # fmt: skip
    return {**scope, "headers": headers}


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a whole body first, and goes on with what follows."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
