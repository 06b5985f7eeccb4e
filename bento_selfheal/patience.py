"""A request must come in time, head and body, or its connection is closed.

uvicorn waits for both for ever, and an ASGI application hears of a request only behind its head.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import ClassVar

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BODY = b'{"error": "the request did not come in time"}'
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class PromptProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with a deadline for each request and for a connection's first.

    One timer looks after all connections: to start and stop one for each request would show.
    """

    seconds: ClassVar[float] = 30.0
    count: ClassVar[Callable[[int], None]] = staticmethod(lambda status: None)
    _awaited: ClassVar[dict[PromptProtocol, float]] = {}
    """Connections whose request is not whole, and since when; the oldest first."""
    _timer: ClassVar[asyncio.TimerHandle | None] = None

    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await()

    def on_headers_complete(self) -> None:
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._met()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._met()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._met()
        super().connection_lost(exc)

    def _await(self) -> None:
        self._met()
        self._awaited[self] = self.loop.time()
        if PromptProtocol._timer is None:
            PromptProtocol._timer = self.loop.call_later(self.seconds, _give_up, self.loop)

    def _met(self) -> None:
        self._in_body = False
        self._awaited.pop(self, None)

    def _close(self) -> None:
        answered = self._in_body and self.cycle.response_started
        self._met()
        if not self.transport.is_closing():
            if not answered:
                PromptProtocol.count(408)
                self.transport.write(TOO_SLOW)
            self.transport.close()


def _give_up(loop: asyncio.AbstractEventLoop) -> None:
    """Close what is overdue, and look again when the next one is."""
    awaited, seconds = PromptProtocol._awaited, PromptProtocol.seconds
    PromptProtocol._timer = None
    while awaited:
        connection, since = next(iter(awaited.items()))
        if since + seconds > loop.time():
            PromptProtocol._timer = loop.call_at(since + seconds, _give_up, loop)
            return
        connection._close()


def serve_promptly(seconds: float, count: Callable[[int], None]) -> None:
    """Have the server of this process, once it starts, close connections that keep it waiting, and
    let it hold as many as the system allows.

    Args:
        seconds: For a request, head and body.
        count: Told the status of each refusal.
    """
    PromptProtocol.seconds = seconds
    PromptProtocol.count = staticmethod(count)
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{PromptProtocol.__name__}"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
