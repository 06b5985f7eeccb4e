"""A worker's connection to the process of one candidate: copies that nobody waits for, and asks."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.candidates.frames import HEAD, Frame, Kind, body_bytes, unpack

DEADLINE_SECONDS = 0.05
"""Longest that a request waits for a candidate before the champion answers it."""
WAITING_BYTES = 1_000_000
"""Copies that may wait in the worker; more are dropped and counted."""
FLUSH_SECONDS = 0.01
TRY_SECONDS = 0.25
"""Between two trials of a candidate that is not known to answer in time."""


class Link:
    """Belongs to the event loop's thread.

    No request waits for a candidate that has not shown that it answers in time: a trial, for which
    nobody waits, has to succeed first, and again after each failure.

    Args:
        path: Socket of the candidate's process.

    Attributes:
        counts: Requests that it answered (``served``), trials that it passed (``tried``), both that
            it answered too late or never (``late``), requests that it had when its process ended
            (``lost``); copies dropped; seconds that the answered ones waited. Its process counts
            what fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[bytes, asyncio.Future[NDArray[np.float32] | None]] = {}
        self._batch: list[bytes] = []
        self._size = 0
        self._works = False
        self._try_at = 0.0
        self._trial: tuple[bytes, float] | None = None
        self.counts = dict.fromkeys(("served", "tried", "late", "lost", "dropped", "waited"), 0.0)

    @property
    def open(self) -> bool:
        """Whether requests may be sent to it."""
        return self._writer is not None and self._works

    def copy(self, request: bytes, rows: NDArray[np.float32]) -> None:
        """Send a copy of rows, soon and together with others; never waits."""
        self._connect()
        tries = self._writer is not None and not self.open and time.monotonic() >= self._try_at
        if self._writer is None or self._size + rows.nbytes > WAITING_BYTES or self._clogged():
            self._count("dropped")
            return
        if tries:
            self._begin_trial(request)
        frame = Frame(Kind.ASK if tries else Kind.COPY, request, rows).pack()
        self._batch.append(frame)
        self._size += len(frame)
        if len(self._batch) == 1:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    async def ask(
        self, request: bytes, rows: NDArray[np.float32], width: tuple[int, ...]
    ) -> NDArray[np.float32] | None:
        """What the candidate says of rows; None where it fails, or says nothing in time.

        Args:
            request: Key of the request.
            rows: ``(n, features)``
            width: Shape of the answer to one row.
        """
        if not self.open or self._clogged():
            return None
        future: asyncio.Future[NDArray[np.float32] | None]
        future = self._waiting[request] = asyncio.get_running_loop().create_future()
        assert self._writer is not None  # noqa: S101 - as `open` says
        began = time.monotonic()
        self._writer.write(Frame(Kind.ASK, request, rows).pack())
        try:
            said = await asyncio.wait_for(future, DEADLINE_SECONDS)
        except TimeoutError:
            self._count("late")
            self._works = False
            return None
        finally:
            self._waiting.pop(request, None)
        if said is None or said.shape != (len(rows), *width):
            self._works = False
            return None
        self._count("served")
        self._count("waited", time.monotonic() - began)
        return said

    def close(self) -> None:
        """Let the candidate go."""
        if self._task is not None:
            self._task.cancel()
        self._lost()

    def _count(self, what: str, by: float = 1) -> None:
        self.counts[what] += by

    def _clogged(self) -> bool:
        return (
            self._writer is not None
            and self._writer.transport.get_write_buffer_size() > WAITING_BYTES
        )

    def _flush(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        if self._writer is not None:
            self._writer.write(b"".join(batch))

    def _connect(self) -> None:
        if self._task is None or (self._task.done() and time.monotonic() >= self._try_at):
            self._try_at = time.monotonic() + TRY_SECONDS
            self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        except OSError:
            return
        try:
            while True:
                head = await reader.readexactly(HEAD.size)
                self._heard(unpack(head, await reader.readexactly(body_bytes(head))))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            self._lost()

    def _heard(self, frame: Frame) -> None:
        future = self._waiting.get(frame.request)
        if future is not None and not future.done():
            future.set_result(frame.numbers if frame.kind is Kind.SAID else None)
        elif self._trial is not None and frame.request == self._trial[0]:
            in_time = time.monotonic() - self._trial[1] < DEADLINE_SECONDS + FLUSH_SECONDS
            self._works = in_time and frame.kind is Kind.SAID
            self._count("tried" if in_time else "late")
            self._trial = None

    def _begin_trial(self, request: bytes) -> None:
        if self._trial is not None:  # it said nothing to the one before
            self._count("late")
        self._try_at = time.monotonic() + TRY_SECONDS
        self._trial = request, time.monotonic()

    def _lost(self) -> None:
        if self._writer is not None:
            with suppress(OSError, RuntimeError):
                self._writer.transport.abort()
        self._writer = self._trial = None
        self._works = False
        for future in self._waiting.values():
            if not future.done():
                self._count("lost")
                future.set_result(None)
