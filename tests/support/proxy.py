"""A TCP proxy in front of a database that can be slow, stall, lose connections, or be gone."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # linger for no time: the other side gets a reset


class Proxy:
    """Listens on a port of its own and hands on to another one.

    Args:
        port: Where the database listens, on this machine.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._delay = 0.0
        self._flows = threading.Event()
        self._flows.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accept(self._listener)

    def close(self) -> None:
        """Let go of everything."""
        self._listener.close()
        self._flows.set()
        self.cut()

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        with self._lock:
            cut, self._open = self._open, set()
        for one in cut:
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        return len(cut) // 2

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Connections are reset and new ones refused, for as long as the block lasts."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        try:
            yield
        finally:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._accept(self._listener)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Connections stay and nothing goes through."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Everything takes so much longer, each way."""
        self._delay = seconds
        try:
            yield
        finally:
            self._delay = 0.0

    def _accept(self, listener: socket.socket) -> None:
        def run() -> None:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                try:
                    far = socket.create_connection(("127.0.0.1", self._upstream))
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open |= {near, far}
                for ways in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ways, daemon=True).start()

        threading.Thread(target=run, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                time.sleep(self._delay)
                self._flows.wait()
                target.sendall(chunk)
        with self._lock:
            self._open -= {source, target}
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
