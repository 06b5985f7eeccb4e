"""Closes connections of slow clients: a request must arrive, and its answer be read, in time.

uvicorn waits for ever, and an ASGI application hears of a request only once its head has arrived.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from bento_selfheal.internals import HttpToolsProtocol, response_started, serve_by

BODY = b'{"error": "the request did not arrive in time"}'
TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Owed(Enum):
    """What a client still has to do on a connection."""

    REQUEST = "request"  # send it, head and body
    READING = "reading"  # read an answer that is too large to be buffered


class PromptProtocol(HttpToolsProtocol):
    """uvicorn's HTTP, with a deadline for each request, for a connection's first one, and for
    reading an answer.

    One timer serves all connections: to start and stop one per request would cost speed.
    """

    seconds: ClassVar[float] = 30.0
    count: ClassVar[Callable[[int], None]] = staticmethod(lambda status: None)
    _awaited: ClassVar[dict[tuple[PromptProtocol, Owed], float]] = {}
    """What clients owe, and since when; the oldest first."""
    _timer: ClassVar[asyncio.TimerHandle | None] = None

    _in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._await(Owed.REQUEST)

    def on_message_begin(self) -> None:
        """Start to wait for the rest of a request."""
        super().on_message_begin()
        self._await(Owed.REQUEST)

    def on_headers_complete(self) -> None:
        """Note that a request has an answer to come."""
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop waiting: the request is whole."""
        self._met(Owed.REQUEST)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Stop waiting: a WebSocket may be silent."""
        self._met(Owed.REQUEST)
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Start to wait for the client to read."""
        super().pause_writing()
        self._await(Owed.READING)

    def resume_writing(self) -> None:
        """Stop waiting: the client reads on."""
        self._met(Owed.READING)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting: the connection is gone."""
        self._met(Owed.REQUEST)
        self._met(Owed.READING)
        super().connection_lost(exc)

    def _await(self, owed: Owed) -> None:
        self._met(owed)
        self._awaited[self, owed] = self.loop.time()
        if PromptProtocol._timer is None:
            PromptProtocol._timer = self.loop.call_later(self.seconds, _give_up, self.loop)

    def _met(self, owed: Owed) -> None:
        if owed is Owed.REQUEST:
            self._in_body = False
        self._awaited.pop((self, owed), None)

    def _close(self, owed: Owed) -> None:
        answered = self._in_body and response_started(self)
        self._met(owed)
        if owed is Owed.READING:
            self.transport.abort()  # to close would wait for what is not read
        elif not self.transport.is_closing():
            if not answered:
                PromptProtocol.count(408)
                self.transport.write(TOO_SLOW)
            self.transport.close()


def _give_up(loop: asyncio.AbstractEventLoop) -> None:
    """Close what is overdue, and set the timer for the next one."""
    awaited, seconds = PromptProtocol._awaited, PromptProtocol.seconds
    PromptProtocol._timer = None
    while awaited:
        (connection, owed), since = next(iter(awaited.items()))
        if since + seconds > loop.time():
            PromptProtocol._timer = loop.call_at(since + seconds, _give_up, loop)
            return
        connection._close(owed)


def serve_promptly(seconds: float, count: Callable[[int], None]) -> None:
    """Have the server that this process will start close connections of slow clients, and let it
    hold as many connections as the system allows.

    Args:
        seconds: To send a request, head and body, and to read on in an answer.
        count: Called with the status of each refusal.
    """
    PromptProtocol.seconds = seconds
    PromptProtocol.count = staticmethod(count)
    serve_by(f"{__name__}:{PromptProtocol.__name__}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
