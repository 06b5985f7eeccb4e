"""A receiver of webhooks: a real HTTP server that may be away, fail or hang, and that checks what
it gets as the specification of Standard Webhooks says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
"""A signing secret."""
TOLERANCE = 300


@dataclass(frozen=True)
class Got:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def place(self) -> int:
        """The place of the event, of a plain body."""
        return int(self.body["data"]["seq"])


@dataclass
class Receiver:
    """What a receiver answers, and what it got."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    """Statuses of the next answers; 204 behind them."""
    headers: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Kinds of events that are answered with 500."""
    hangs: threading.Event | None = None
    """Set, an answer comes only once this is."""
    got: list[Got] = field(default_factory=list)
    taken: list[Got] = field(default_factory=list)
    """Those that were answered with success."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/very-secret-path"

    def places(self, kind: str) -> list[int]:
        """Places of the events of a kind that were taken, in the order in which they came."""
        return [one.place for one in self.taken if one.body["type"] == kind]

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        """Listen, always at the same address; nothing listens there before and after."""
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver._take(self, Got(self.path, headers, raw))

            def do_GET(self) -> None:
                receiver.got.append(Got(self.path, {}, b""))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler

    def _take(self, handler: BaseHTTPRequestHandler, one: Got) -> None:
        self.got.append(one)
        if self.hangs is not None:
            self.hangs.wait()
        status = self.answers.pop(0) if self.answers else 204
        if self.refused and one.body["type"] in self.refused:
            status = 500
        if 200 <= status < 300:
            self.taken.append(one)
        handler.send_response(status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        body = b"" if status == 204 else b"received by the test\x1b[2J"
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def is_genuine(one: Got, secret: str = SECRET, now: float | None = None) -> bool:
    """Whether the signature of a request is good, by the specification's own words: base64 of the
    HMAC-SHA256 of id, timestamp and body with dots between, by the secret behind ``whsec_``."""
    moment = time.time() if now is None else now
    stamp, given = one.headers["webhook-timestamp"], one.headers["webhook-signature"]
    if abs(moment - int(stamp)) > TOLERANCE:
        return False
    signed = f"{one.headers['webhook-id']}.{stamp}.{one.raw.decode()}".encode()
    own = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256)
    version, _, value = given.partition(",")
    return version == "v1" and hmac.compare_digest(base64.b64decode(value), own.digest())
