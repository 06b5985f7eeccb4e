"""Requests that wait for a heavy model are computed together, outside the event loop.

One thread computes one batch after the other. What comes meanwhile waits, and is the next batch.
Nobody waits for others to come: a request that finds the thread idle is computed at once.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic

from bento_selfheal.errors import Overloaded
from bento_selfheal.serving.answering.call_times import CallTimes
from bento_selfheal.serving.answering.gathering import Compute, Request, Result, unless_error

THREAD = "selfheal-model"


@dataclass(frozen=True)
class Waiting(Generic[Request, Result]):
    """A request that waits, or that is computed now."""

    request: Request
    size: int
    came: float
    """By the event loop's clock, in seconds."""
    future: asyncio.Future[Result | Exception]


class Batching(Generic[Request, Result]):
    """Computes requests in batches, in a thread of its own.

    It knows nothing of what requests are. All its methods belong to the event loop; only `compute`
    runs in the thread.

    Args:
        compute: Computes a batch.
        size: How much a request takes of a batch, e.g. its rows.
        max_batch_size: Most that one batch holds; a larger request is computed alone.
        max_latency: Seconds. A request that would be answered later than that is refused.
    """

    def __init__(
        self,
        compute: Compute[Request, Result],
        size: Callable[[Request], int],
        *,
        max_batch_size: int,
        max_latency: float,
    ) -> None:
        self._compute = compute
        self._size = size
        self._max_batch_size = max_batch_size
        self._max_latency = max_latency
        self._thread = ThreadPoolExecutor(1, THREAD)
        self._waiting: deque[Waiting[Request, Result]] = deque()
        self._times = CallTimes()
        self._busy = self._closed = False
        self._due = 0.0
        self._running: asyncio.Future[list[Result | Exception]] | None = None

    async def answer(self, request: Request) -> Result:
        """Compute one request, in a batch with others where others wait.

        Raises:
            Overloaded: It would be answered too late, or the service stops.
            Exception: Its own error; an error of another request does not reach it.
        """
        if self._closed:
            raise Overloaded("the service is stopping; ask again")
        loop = asyncio.get_running_loop()
        size, now = self._size(request), loop.time()
        if self._busy and self._seconds_until_told(size, now) > self._max_latency:
            raise self._overloaded()
        waiting = Waiting[Request, Result](request, size, now, loop.create_future())
        self._waiting.append(waiting)
        if not self._busy:
            self._busy, self._due = True, now
            # In the next turn of the event loop: what else this turn brings is computed with it.
            loop.call_soon(self._begin, self._first_batch)
        return unless_error(await waiting.future)

    async def close(self) -> None:
        """Let the batch in hand finish, refuse what waits and what comes, and end the thread."""
        self._closed = True
        while self._waiting:
            _tell(self._waiting.popleft(), Overloaded("the service is stopping; ask again"))
        if self._running is not None:
            await asyncio.wait([self._running])
        self._thread.shutdown(wait=False)

    def _begin(self, take: Callable[[float], list[Waiting[Request, Result]]]) -> None:
        """Hand the next batch to the thread, if anything waits."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        batch = take(now)
        self._busy, self._running = bool(batch), None
        if batch:
            self._due = now + self._times.expected(1, sum(one.size for one in batch))
            requests = [one.request for one in batch]
            self._running = loop.run_in_executor(self._thread, self._compute, requests)
            self._running.add_done_callback(functools.partial(self._finish, batch, now))

    def _finish(
        self,
        batch: list[Waiting[Request, Result]],
        begun: float,
        done: asyncio.Future[list[Result | Exception]],
    ) -> None:
        seconds = asyncio.get_running_loop().time() - begun
        self._times.add(sum(one.size for one in batch), seconds)
        # First: the thread computes while these are told.
        self._begin(self._next_batch)
        error = done.exception()
        if error is not None:  # nobody may wait for ever
            told = error if isinstance(error, Exception) else RuntimeError(repr(error))
            results: list[Result | Exception] = [told] * len(batch)
        else:
            results = done.result()
        for one, result in zip(batch, results, strict=True):
            _tell(one, result)

    def _first_batch(self, now: float) -> list[Waiting[Request, Result]]:
        """What came to an idle thread: nothing is too late, or a slow model would never answer."""
        return self._batch(lambda *_: False)

    def _next_batch(self, now: float) -> list[Waiting[Request, Result]]:
        """The oldest that still can be answered in time."""

        def late(one: Waiting[Request, Result], before: int) -> bool:
            seconds = self._times.expected(1, before + one.size)
            return now - one.came + seconds > self._max_latency

        return self._batch(late)

    def _batch(
        self, late: Callable[[Waiting[Request, Result], int], bool]
    ) -> list[Waiting[Request, Result]]:
        """Take what fits into a batch, oldest first; what would be late is refused."""
        batch: list[Waiting[Request, Result]] = []
        size = 0
        while self._waiting:
            one = self._waiting[0]
            if batch and size + one.size > self._max_batch_size:
                break
            self._waiting.popleft()
            if one.future.cancelled():
                continue
            if late(one, size):
                _tell(one, self._overloaded())
                continue
            batch.append(one)
            size += one.size
        return batch

    def _seconds_until_told(self, size: int, now: float) -> float:
        """How long a request of this size would take from now on, behind all that waits."""
        total = size + sum(one.size for one in self._waiting)
        calls = math.ceil(total / self._max_batch_size)
        return max(self._due - now, 0.0) + self._times.expected(calls, total)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"too many requests wait for the model: it cannot answer within "
            f"{self._max_latency * 1000:.0f} ms; ask again later"
        )


def _tell(one: Waiting[Request, Result], result: Result | Exception) -> None:
    if not one.future.done():  # who has gone needs no answer
        one.future.set_result(result)
