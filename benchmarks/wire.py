"""A light HTTP client in a process of its own: one thread, raw bytes, on a schedule or flat out.

    python benchmarks/wire.py PORT FILE [--rate R --seconds S] [--connections C]

FILE holds requests one after the other, each behind its length in four bytes. With a rate they
are sent in turn, round and round, on a fixed schedule, and each answer is timed from the moment at
which its request was due, so that a stall counts for everyone that it delays. Without a rate each
is sent once, as fast as answers come. Writes FILE.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import uvloop

ACCEPT_SECONDS = 0.01


@dataclass
class Timings:
    """Answer times in milliseconds, and what was answered."""

    times: list[float] = field(default_factory=list)
    failed: int = 0
    seconds: float = 0.0
    began: float = 0.0
    """When the first request was due, in seconds since the epoch."""
    due: list[float] = field(default_factory=list)
    """When each answered request was due, in seconds after that."""

    def percentile(self, q: float) -> float:
        return round(float(np.percentile(self.times, q)), 3)


class Link(asyncio.Protocol):
    """One connection that waits for one answer at a time."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._buffer = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        start = head.find(b"content-length:") + len(b"content-length:")
        length = int(head[start : head.find(b"\r", start) if b"\r" in head[start:] else None])
        if len(self._buffer) >= end + 4 + length:
            self._buffer = self._buffer[end + 4 + length :]
            self._crew.answered(self, good=head.startswith(b"http/1.1 200"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._crew.answered(self, good=False)


class Crew:
    """All connections: who is free, what waits, what came back."""

    def __init__(self) -> None:
        self.free: deque[Link] = deque()
        self.waiting: deque[tuple[bytes, float]] = deque()
        self.timings = Timings()
        self.open = 0
        self.idle = asyncio.Event()

    def ask(self, request: bytes, due: float) -> None:
        self.open += 1
        self.idle.clear()
        if self.free:
            self.free.popleft().ask(request, due)
        else:
            self.waiting.append((request, due))

    def answered(self, link: Link, *, good: bool) -> None:
        if self.open == 0:
            return  # a connection that closes at the end
        self.timings.due.append(link.due)
        self.timings.times.append((time.perf_counter() - link.due) * 1000)
        self.timings.failed += not good
        self.open -= 1
        if self.waiting:
            link.ask(*self.waiting.popleft())
        else:
            self.free.append(link)
            if not self.open:
                self.idle.set()


async def work(
    port: int, requests: list[bytes], connections: int, rate: float | None, seconds: float
) -> Timings:
    loop, crew = asyncio.get_running_loop(), Crew()
    for _ in range(connections):
        _, link = await loop.create_connection(lambda: Link(crew), "127.0.0.1", port)
        crew.free.append(link)
        # Workers share one socket: connections that come all at once go to whoever wakes first.
        await asyncio.sleep(ACCEPT_SECONDS)
    start, crew.timings.began = time.perf_counter(), time.time()
    if rate is None:
        for request in requests:
            crew.ask(request, start)
    else:
        for i in range(int(rate * seconds)):
            due = start + i / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            crew.ask(requests[i % len(requests)], due)
    await asyncio.wait_for(crew.idle.wait(), 120)
    crew.timings.seconds = time.perf_counter() - start
    crew.timings.due = [due - start for due in crew.timings.due]
    return crew.timings


def post(path: str, body: bytes, kind: str = "application/json") -> bytes:
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def send(
    port: int,
    requests: list[bytes],
    *,
    rate: float | None = None,
    seconds: float = 0.0,
    connections: int = 8,
) -> Timings:
    """Run the client in a process of its own."""
    with tempfile.NamedTemporaryFile() as file:
        for request in requests:
            file.write(struct.pack("<I", len(request)) + request)
        file.flush()
        command = [sys.executable, __file__, str(port), file.name, "--connections"]
        command += [str(connections), "--seconds", str(seconds)]
        command += ["--rate", str(rate)] if rate else []
        answers = Path(f"{file.name}.json")
        try:
            subprocess.run(command, check=True)
            return Timings(**json.loads(answers.read_text()))
        finally:
            answers.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=0.0)
    args = parser.parse_args()
    blob, requests = args.file.read_bytes(), []
    while blob:
        (size,) = struct.unpack("<I", blob[:4])
        requests.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    timings = uvloop.run(work(args.port, requests, args.connections, args.rate, args.seconds))
    Path(f"{args.file}.json").write_text(json.dumps(asdict(timings)))


if __name__ == "__main__":
    main()
