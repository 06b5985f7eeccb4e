"""The host of this machine's candidates, and a candidate's process, as their keeper sees them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bento_selfheal.candidates.exits import EXITS
from bento_selfheal.core.candidates.candidate import Candidate
from bento_selfheal.core.models.current import MODEL

START_SECONDS = 300.0
"""Longest that a candidate may take to load: it does while nobody else wants the core."""
SILENT_SECONDS = 8.0
END_SECONDS = 1.0
MODULE = "bento_selfheal.candidates.host"


class Host:
    """The process that candidates are forks of. It starts at once and loads what they need."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", MODULE], stdin=theirs.fileno()
            )

    @property
    def alive(self) -> bool:
        """Whether it can start candidates."""
        return self._child.poll() is None

    def start(self, candidate: Candidate, path: Path) -> Process:
        """Begin the process of a candidate, which is to listen at ``path``."""
        ours, theirs = socket.socketpair()
        order = {"start": candidate.id, "tag": candidate.tag, "path": str(path)}
        with theirs, suppress(OSError):  # a host that has just ended: so has the candidate
            self._order({**order, "model": MODEL.get()}, theirs.fileno())
        return Process(candidate.id, self, ours)

    def end(self, candidate: int) -> None:
        """End the process of a candidate at once."""
        with suppress(OSError):
            self._order({"end": candidate})

    def stop(self) -> None:
        """End it and all candidates."""
        self._orders.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(END_SECONDS)
        self._child.kill()  # it may still be loading
        self._child.wait()

    def _order(self, order: dict[str, Any], *lines: int) -> None:
        socket.send_fds(self._orders, [json.dumps(order).encode() + b"\n"], lines)


class Process:
    """One candidate's process, and when it last showed that it is alive."""

    def __init__(self, candidate: int, host: Host, line: socket.socket) -> None:
        self._candidate = candidate
        self._host = host
        self._line = line
        self._why = "ended"
        self._until = time.monotonic() + START_SECONDS

    def trouble(self) -> str:
        """What is wrong with it: ``ended``, ``hung`` or one of `EXITS`; else empty."""
        with suppress(BlockingIOError):
            while said := self._said():
                self._until = time.monotonic() + SILENT_SECONDS
                self._why = EXITS.get(said[-1:], self._why)
            return self._why
        return "" if time.monotonic() < self._until else "hung"

    def end(self) -> None:
        """End it at once."""
        self._host.end(self._candidate)
        self._line.close()

    def _said(self) -> bytes:
        """What has come since; nothing once its process has ended.

        Raises:
            BlockingIOError: Nothing has come.
        """
        try:
            return self._line.recv(4096, socket.MSG_DONTWAIT)
        except ConnectionError:
            return b""
