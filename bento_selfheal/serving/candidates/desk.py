"""A worker's candidates: copies of rows for all, and answers of the one that has a share."""

from __future__ import annotations

import logging
import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.candidates.candidate import (
    Candidate,
    CandidatePrediction,
    CandidateState,
    reporter,
)
from bento_selfheal.core.ids import KEY_HASH_BYTES, is_logged
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.serving.candidates.keeper import Keeper, folder_of
from bento_selfheal.serving.candidates.link import Link
from bento_selfheal.store import SqlStore

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.5
NONE_SECONDS = 1.0
"""Between two polls while there is no candidate: each costs the database a transaction."""
MOST_WAITING = 100_000
"""Answers of candidates that wait for the store; beyond it the oldest are dropped."""


class CandidateDesk:
    """Follows the table of candidates, as `Follower` follows promotions.

    Args:
        store: Where candidates are.
        width: Shape of the answer to one row.
        interval: Seconds between two polls while there is a candidate.

    Attributes:
        running: The candidates on their ramp; replaced whole by the thread.
        thread: Polls the table, keeps the processes, and writes what was answered.
    """

    def __init__(self, store: SqlStore, width: tuple[int, ...], interval: float) -> None:
        self._store = store
        self._width = width
        self._folder = folder_of(store.meta("store_id") or "store")
        self._keeper = Keeper(store, self._folder)
        self._links: dict[int, Link] = {}
        self._said: deque[CandidatePrediction] = deque(maxlen=MOST_WAITING)
        self._reported: dict[int, dict[str, float]] = {}
        self._next_report = 0.0
        self.running: tuple[Candidate, ...] = ()
        self.thread = PeriodicThread(
            "selfheal-candidates", self._poll, interval, longest_retry=1.0, at_end=self._stop
        )

    @property
    def active(self) -> bool:
        """Whether there is a candidate, or one to let go of."""
        return bool(self.running or self._links)

    def copy(self, request: bytes, rows: NDArray[np.float32], *, besides: int = 0) -> None:
        """Send copies of rows that were answered to all candidates but one; waits for nothing."""
        running = self.running
        for gone in self._links.keys() - {c.id for c in running}:
            self._links.pop(gone).close()
        if is_logged(request):  # without a row in the log nothing can be compared
            for candidate in running:
                if candidate.id != besides:
                    self._link(candidate).copy(request, rows)

    async def answer(
        self, request: bytes, rows: NDArray[np.float32], keys: bytes
    ) -> tuple[Candidate, NDArray[np.float32]] | None:
        """The candidate that answers a request, and its answer; None where the champion's stands.

        Args:
            request: Key of the request.
            rows: ``(n, features)``
            keys: The hashes of the rows' own keys; the first decides who answers.
        """
        name = keys[:KEY_HASH_BYTES] or request
        for candidate in self.running:
            if candidate.takes(name):
                said = await self._link(candidate).ask(request, rows, self._width)
                if said is None:
                    return None
                if is_logged(request):
                    now = time.time()
                    self._said.append(CandidatePrediction(candidate.id, request, said, True, now))
                return candidate, said
        return None

    def _link(self, candidate: Candidate) -> Link:
        if candidate.id not in self._links:
            self._links[candidate.id] = Link(self._folder / f"{candidate.id}.sock")
        return self._links[candidate.id]

    def _poll(self) -> float | None:
        running = [
            c for c in self._store.candidates(living=True) if c.state is CandidateState.RUNNING
        ]
        self.running = tuple(running)
        self._keeper.keep(running)
        self._write()
        return None if self.active else NONE_SECONDS

    def _write(self) -> None:
        said = [self._said.popleft() for _ in range(len(self._said))]
        self._store.append_candidate_predictions(said)
        if time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + REPORT_SECONDS
        for number, link in list(self._links.items()):
            counts = dict(link.counts)
            if counts != self._reported.get(number):
                self._store.report_candidate(number, reporter("worker"), counts)
                self._reported[number] = counts

    def _stop(self) -> None:
        self._keeper.stop()
        self._write()
