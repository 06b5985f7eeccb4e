"""Answers with a candidate: requests that somebody waits for, and copies."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.candidates.frames import Frame, Kind
from bento_selfheal.candidates.priority import Priority
from bento_selfheal.core.candidates.candidate import CandidatePrediction, reporter
from bento_selfheal.errors import brief
from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.probabilities import no_probability, predict_probabilities
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)

MOST_COPIES = 2000
"""Copies that wait for their answer; more are dropped and counted."""
ROWS_A_CALL = 256
"""Of copies: an ask waits for the call in hand."""


class Answerer:
    """Answers copies and asks, one call of the model at a time.

    Args:
        package: The candidate.
        candidate: Its number.
        store: Where its answers to copies and its counts go.
        priority: Of the process: higher while requests wait.

    Attributes:
        counts: Requests that it answered, failed and dropped, the seconds of the processor that
            they took, and how it failed last.
    """

    def __init__(
        self, package: Package, candidate: int, store: SqlStore, priority: Priority
    ) -> None:
        self._package = package
        self._candidate = candidate
        self._store = store
        self._priority = priority
        self._come = threading.Condition()
        self._asks: deque[tuple[Frame, socket.socket]] = deque()
        self._copies: deque[Frame] = deque()
        self._model = threading.Lock()
        self._said: deque[CandidatePrediction] = deque(maxlen=20_000)
        self._busy_since = 0.0
        self.counts: dict[str, Any] = dict.fromkeys(("answered", "failed", "dropped", "seconds"), 0)

    @property
    def busy_seconds(self) -> float:
        """How long the call of the model in hand has taken so far."""
        since = self._busy_since
        return time.monotonic() - since if since else 0.0

    def take(self, frame: Frame, back: socket.socket) -> None:
        """Take a frame of a worker."""
        if frame.kind is Kind.ASK:
            self._priority.asked()
        with self._come:
            if frame.kind is Kind.ASK:
                self._asks.append((frame, back))
            elif len(self._copies) < MOST_COPIES:
                self._copies.append(frame)
            else:
                self.counts["dropped"] += 1
            self._come.notify_all()

    def answer_asks(self) -> None:
        """Answer requests until the process ends."""
        while True:
            with self._come:
                self._come.wait_for(lambda: self._asks)
                frame, back = self._asks.popleft()
            said = self._answer([frame])
            failed = Frame(Kind.FAILED, frame.request, np.zeros(0, np.float32))
            reply = failed if said is None else Frame(Kind.SAID, frame.request, said)
            with suppress(OSError):  # the worker has gone
                back.sendall(reply.pack())

    def answer_copies(self) -> None:
        """Answer copies, while no request waits, until the process ends."""
        self._priority.stand_back()
        while True:
            with self._come:
                self._come.wait_for(lambda: self._copies and not self._asks)
                copies = self._some_copies()
            self._shadow(copies)

    def write(self) -> None:
        """Write what was said of copies, and the counts; stand back where nobody waits."""
        self._priority.settle()
        said = [self._said.popleft() for _ in range(len(self._said))]
        self._store.append_candidate_predictions(said)
        self._store.report_candidate(self._candidate, reporter("candidate"), dict(self.counts))

    def _some_copies(self) -> list[Frame]:
        copies = [self._copies.popleft()]
        rows, width = len(copies[0].numbers), copies[0].numbers.shape[1:]
        while self._copies and rows < ROWS_A_CALL and self._copies[0].numbers.shape[1:] == width:
            copies.append(self._copies.popleft())
            rows += len(copies[-1].numbers)
        return copies

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
        rows = np.concatenate([f.numbers for f in frames])
        with self._model:
            self._busy_since, began = time.monotonic(), time.thread_time()
            try:
                said = predict_probabilities(self._package.model, rows)
                why = self._package.misfit(rows, said) or no_probability(said)
            except Exception as error:  # whatever a user's model raises
                said, why = None, brief(error)
            self.counts["seconds"] += time.thread_time() - began
            self._busy_since = 0.0
            if not why:
                self.counts["answered"] += len(frames)
                return said
            if len(frames) == 1:
                self._failed(why)
        return None

    def _failed(self, why: str) -> None:
        if not self.counts["failed"]:
            log.error("candidate %d failed: %s", self._candidate, why)
        self.counts["failed"] += 1
        self.counts["error"] = why
