"""The process of one candidate: it answers over a local socket, and harms nobody but itself.

    python -m bento_selfheal.candidates.process ID TAG SOCKET

It ends when its parent does. What it may allocate is limited once its model is loaded, and it is
the first that the system ends where memory runs out.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.candidates.frames import HEAD, Frame, Kind, body_bytes, unpack
from bento_selfheal.config.settings import load_settings
from bento_selfheal.core.candidates.candidate import CandidatePrediction
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.deployment.threads import one_thread_a_call
from bento_selfheal.errors import StoreError, brief
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import no_probability, predict_probabilities
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)

MORE_BYTES = 1 << 30
"""What the process may allocate beyond what it has once its model is loaded."""
MOST_COPIES = 2000
"""Copies that wait for their answer; more are dropped and counted."""
ROWS_A_CALL = 1024
WRITE_SECONDS = 0.2
HANG_SECONDS = 5.0


class Answerer:
    """Answers copies and asks, one call of the model at a time, asks first.

    Args:
        package: The candidate.
        candidate: Its number.
        store: Where its answers to copies and its counts go.
    """

    def __init__(self, package: Package, candidate: int, store: SqlStore) -> None:
        self._package = package
        self._candidate = candidate
        self._store = store
        self._work = threading.Condition()
        self._asks: deque[tuple[Frame, socket.socket]] = deque()
        self._copies: deque[Frame] = deque()
        self._said: deque[CandidatePrediction] = deque(maxlen=20_000)
        self.counts = dict.fromkeys(("answered", "failed", "dropped", "seconds"), 0.0)
        self.busy_since = 0.0

    def take(self, frame: Frame, back: socket.socket) -> None:
        """Take a frame of a worker."""
        with self._work:
            if frame.kind is Kind.ASK:
                self._asks.append((frame, back))
            elif len(self._copies) < MOST_COPIES:
                self._copies.append(frame)
            else:
                self.counts["dropped"] += 1
            self._work.notify()

    def run(self) -> None:
        """Answer until the process ends."""
        while True:
            with self._work:
                while not self._asks and not self._copies:
                    self._work.wait()
                ask = self._asks.popleft() if self._asks else None
                copies = [] if ask else self._some_copies()
            self.busy_since = time.monotonic()
            if ask is not None:
                self._reply(*ask)
            else:
                self._shadow(copies)
            self.busy_since = 0.0

    def write(self) -> None:
        """Write what was said of copies, and the counts."""
        said = [self._said.popleft() for _ in range(len(self._said))]
        self._store.append_candidate_predictions(said)
        reporter = f"{socket.gethostname()[:60]} candidate {os.getpid()}"
        self._store.report_candidate(self._candidate, reporter, dict(self.counts))

    def _some_copies(self) -> list[Frame]:
        copies = [self._copies.popleft()]
        rows, width = len(copies[0].numbers), copies[0].numbers.shape[1:]
        while self._copies and rows < ROWS_A_CALL and self._copies[0].numbers.shape[1:] == width:
            copies.append(self._copies.popleft())
            rows += len(copies[-1].numbers)
        return copies

    def _reply(self, frame: Frame, back: socket.socket) -> None:
        said = self._answer([frame])
        kind, numbers = (
            (Kind.FAILED, np.zeros(0, np.float32)) if said is None else (Kind.SAID, said)
        )
        with suppress(OSError):  # the worker has gone
            back.sendall(Frame(kind, frame.request, numbers).pack())

    def _shadow(self, copies: list[Frame]) -> None:
        said = self._answer(copies)
        if said is None and len(copies) > 1:  # one bad row spoils only its own request
            for one in copies:
                self._shadow([one])
            return
        if said is not None:
            now, ends = time.time(), np.cumsum([len(c.numbers) for c in copies])[:-1]
            for one, part in zip(copies, np.split(said, ends), strict=True):
                self._said.append(
                    CandidatePrediction(self._candidate, one.request, part, False, now)
                )

    def _answer(self, frames: list[Frame]) -> NDArray[np.float32] | None:
        rows, begun = np.concatenate([f.numbers for f in frames]), time.thread_time()
        try:
            said = predict_probabilities(self._package.model, rows)
            why = self._package.misfit(rows, said) or no_probability(said)
        except Exception as error:  # whatever a user's model raises
            said, why = None, brief(error)
        self.counts["seconds"] += time.thread_time() - begun
        if not why:
            self.counts["answered"] += len(frames)
            return said
        if len(frames) == 1:
            if not self.counts["failed"]:
                log.error("candidate %d failed: %s", self._candidate, why)
            self.counts["failed"] += 1
        return None


def main() -> None:
    """Serve until the parent ends, which closes this process's standard input."""
    candidate, tag, path = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    settings = load_settings()
    one_thread_a_call()
    store = open_store(settings)
    answerer = Answerer(open_package(tag, settings.device), candidate, store)
    _limit_memory()
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    for work in (answerer.run, lambda: _accept(listening, answerer), lambda: _write(answerer)):
        threading.Thread(target=work, daemon=True).start()
    _beat(answerer)


def _beat(answerer: Answerer) -> None:
    """Tell the parent that no call hangs; the end of its pipe ends this process."""
    gone = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), gone.set()), daemon=True).start()
    while not gone.wait(0.5):
        since = answerer.busy_since
        if not since or time.monotonic() - since < HANG_SECONDS:
            with suppress(OSError):
                os.write(1, b".")
    os._exit(0)


def _accept(listening: socket.socket, answerer: Answerer) -> None:
    while True:
        worker, _ = listening.accept()
        threading.Thread(target=_read, args=(worker, answerer), daemon=True).start()


def _read(worker: socket.socket, answerer: Answerer) -> None:
    with worker, suppress(OSError, ValueError), worker.makefile("rb") as stream:
        while len(head := stream.read(HEAD.size)) == HEAD.size:
            body = stream.read(body_bytes(head))
            answerer.take(unpack(head, body), worker)


def _write(answerer: Answerer) -> None:
    while True:
        time.sleep(WRITE_SECONDS)
        try:
            answerer.write()
        except StoreError as error:
            log.warning("%s", error)


def _limit_memory() -> None:
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MORE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    main()
