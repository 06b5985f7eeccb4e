"""Where a request is computed: in the event loop, or in the model's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.text import counted
from bento_selfheal.serving.answering.batching import Batching
from bento_selfheal.serving.answering.computing import Computed, Computing, Request
from bento_selfheal.serving.answering.gathering import Gathering
from bento_selfheal.serving.answering.threads import threads_of_heavy
from bento_selfheal.serving.worker import Answer

Rows = NDArray[np.float32]
Record = Callable[[Computed, bytes], Answer]
"""Records what was computed, with the hashes of its rows' keys."""

HOLD_SECONDS = 0.005
"""Longest call of the model that the event loop makes itself: all other requests wait for it."""
FEW_ROWS = 64
"""Rows up to which a request of a light model is computed together with others."""
MANY_ROWS = 1024
"""Rows by which the time of one row is measured."""
CALLS = 3

log = logging.getLogger(__name__)


class Dispatcher:
    """Computes requests where they hold nobody up.

    A model is heavy where a call of `FEW_ROWS` rows takes longer than `HOLD_SECONDS`. It is
    measured once, on one thread, by the rows that the package brings. Requests of a heavy model are
    computed in batches in a thread; those of a light one in the event loop, but for large ones.

    Args:
        computing: Calls the model.
        rows: Rows that the model answers, ``(m, features)``, at least one.
        record: Issues the ids of a request and logs it, in the event loop's thread.
        settings: Of the service.
        cores: Cores that all workers of the service may use together.

    Attributes:
        heavy: Whether the model is heavy.
        threads: Threads that each call of the model takes.
    """

    def __init__(
        self,
        computing: Computing,
        rows: Rows,
        record: Record,
        settings: Settings,
        cores: int,
    ) -> None:
        self._computing = computing
        self._record = record
        self._gathering = Gathering(self._answer_light)
        self._batching = Batching(
            computing.compute_all, rows_of, max_batch_size=settings.max_batch_size,
            max_latency=settings.max_latency_ms / 1000,
        )  # fmt: skip
        torch.set_num_threads(settings.model_threads or 1)
        self._rows_in_loop = rows_within(HOLD_SECONDS, computing, rows)
        self.heavy = self._rows_in_loop < FEW_ROWS
        light = settings.model_threads or 1
        self.threads = threads_of_heavy(settings, cores) if self.heavy else light
        torch.set_num_threads(self.threads)
        log.info(
            "the model is %s: requests %s; %s a call",
            "heavy" if self.heavy else "light",
            "are computed in batches, in a thread of their own" if self.heavy
            else f"of up to {self._rows_in_loop} rows are computed at once",
            counted(self.threads, "thread"),
        )  # fmt: skip

    async def answer(self, rows: Rows, keys: bytes = b"") -> Answer:
        """The recorded answer to one request.

        Args:
            rows: ``(n, features)``
            keys: The hashes of the rows' own keys, if they have any.

        Raises:
            InvalidInput: The model cannot answer one of the rows; it is named.
            PackageError: The model answers with something else than a probability for each row.
            Overloaded: It would be answered too late, or the service stops.
        """
        if self.heavy or len(rows) > self._rows_in_loop:
            return self._record(await self._batching.answer((rows, keys)), keys)
        return await self._gathering.answer((rows, keys))

    def _answer_light(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        """Small requests with one call of the model, and each of the others with its own."""
        small = [at for at, (rows, _) in enumerate(requests) if len(rows) <= FEW_ROWS]
        together = self._computing.compute_all([requests[at] for at in small]) if small else []
        found = dict(zip(small, together, strict=True))
        computed = [
            found.get(at) or self._computing.compute_all([request])[0]
            for at, request in enumerate(requests)
        ]
        # One after the other: recorded between other work, each takes a tenth of its time longer.
        return [
            one if isinstance(one, Exception) else self._record(one, keys)
            for one, (_, keys) in zip(computed, requests, strict=True)
        ]

    async def close(self) -> None:
        """Let the batch in hand finish, and refuse what waits."""
        await self._batching.close()


def rows_of(request: Request) -> int:
    """How many rows a request has."""
    return len(request[0])


def rows_within(seconds: float, computing: Computing, rows: Rows) -> int:
    """How many rows the model answers in one call within so many seconds.

    0 where it does not answer so much as `FEW_ROWS` rows, or not the given ones.

    Args:
        seconds: Longest time of the call.
        computing: Calls the model.
        rows: Rows to ask about, ``(m, features)``; they are repeated as needed.
    """
    try:
        # One row first: of a heavy model, more would delay the start.
        for count in (1, FEW_ROWS):
            if _call_seconds(computing, np.resize(rows, (count, rows.shape[1]))) > seconds:
                return 0
        many = np.resize(rows, (MANY_ROWS, rows.shape[1]))
        return max(FEW_ROWS, int(MANY_ROWS * seconds / _call_seconds(computing, many)))
    except Exception:  # whatever a user's model raises; requests are told
        log.exception("the model does not answer the rows of its package; it counts as heavy")
        return 0


def _call_seconds(computing: Computing, rows: Rows) -> float:
    """The shortest of a few calls, after one to warm up: a busy machine makes no model heavy."""
    computing.compute(rows)
    times = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        computing.compute(rows)
        times.append(time.perf_counter() - begun)
    return min(times)
