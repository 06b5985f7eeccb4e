"""A request must come in time, head and body, and its answer be taken, or the connection is closed.

uvicorn waits for ever, and an ASGI application hears of a request only behind its head.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BODY = b'{"error": "the request did not come in time"}'
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Wait(Enum):
    """What a connection owes."""

    REQUEST = "request"
    READING = "reading"
    """Of an answer that is too large to be buffered."""


class PromptProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with a deadline for each request, for a connection's first, and for reading
    an answer.

    One timer looks after all connections: to start and stop one for each request would show.
    """

    seconds: ClassVar[float] = 30.0
    count: ClassVar[Callable[[int], None]] = staticmethod(lambda status: None)
    _awaited: ClassVar[dict[tuple[PromptProtocol, Wait], float]] = {}
    """What is owed, and since when; the oldest first."""
    _timer: ClassVar[asyncio.TimerHandle | None] = None

    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await(Wait.REQUEST)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await(Wait.REQUEST)

    def on_headers_complete(self) -> None:
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._met(Wait.REQUEST)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._met(Wait.REQUEST)
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await(Wait.READING)

    def resume_writing(self) -> None:
        self._met(Wait.READING)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._met(Wait.REQUEST)
        self._met(Wait.READING)
        super().connection_lost(exc)

    def _await(self, owed: Wait) -> None:
        self._met(owed)
        self._awaited[self, owed] = self.loop.time()
        if PromptProtocol._timer is None:
            PromptProtocol._timer = self.loop.call_later(self.seconds, _give_up, self.loop)

    def _met(self, owed: Wait) -> None:
        if owed is Wait.REQUEST:
            self._in_body = False
        self._awaited.pop((self, owed), None)

    def _close(self, owed: Wait) -> None:
        answered = self._in_body and self.cycle.response_started
        self._met(owed)
        if owed is Wait.READING:
            self.transport.abort()  # to close would wait for what is not read
        elif not self.transport.is_closing():
            if not answered:
                PromptProtocol.count(408)
                self.transport.write(TOO_SLOW)
            self.transport.close()


def _give_up(loop: asyncio.AbstractEventLoop) -> None:
    """Close what is overdue, and look again when the next one is."""
    awaited, seconds = PromptProtocol._awaited, PromptProtocol.seconds
    PromptProtocol._timer = None
    while awaited:
        (connection, owed), since = next(iter(awaited.items()))
        if since + seconds > loop.time():
            PromptProtocol._timer = loop.call_at(since + seconds, _give_up, loop)
            return
        connection._close(owed)


def serve_promptly(seconds: float, count: Callable[[int], None]) -> None:
    """Have the server of this process, once it starts, close connections that keep it waiting, and
    let it hold as many as the system allows.

    Args:
        seconds: For a request, head and body, and for reading on in an answer.
        count: Told the status of each refusal.
    """
    PromptProtocol.seconds = seconds
    PromptProtocol.count = staticmethod(count)
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{PromptProtocol.__name__}"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
