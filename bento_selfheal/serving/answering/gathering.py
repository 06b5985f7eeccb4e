"""Requests that have come by the same moment are computed together, in the event loop.

A light model takes about as long for one row as for fifty, so a worker under load answers many more
requests. Nobody waits for others to come: whoever is there when the event loop gets to it is
answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Request = TypeVar("Request")
Result = TypeVar("Result")
Compute = Callable[[Sequence[Request]], list[Result | Exception]]
"""Gives the result of each request, or the error that it gets instead."""


class Gathering(Generic[Request, Result]):
    """Gathers what one turn of the event loop brings.

    Args:
        compute: Computes requests; the event loop waits for it.
    """

    def __init__(self, compute: Compute[Request, Result]) -> None:
        self._compute = compute
        self._waiting: list[tuple[Request, asyncio.Future[Result | Exception]]] = []

    async def answer(self, request: Request) -> Result:
        """Compute one request with those that came beside it.

        Raises:
            Exception: Its own error; an error of another request does not reach it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result | Exception] = loop.create_future()
        self._waiting.append((request, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._answer_waiting)
        return unless_error(await future)

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        there = [(request, future) for request, future in waiting if not future.cancelled()]
        if not there:
            return
        try:
            results = self._compute([request for request, _ in there])
        except Exception as error:  # nobody may wait for ever
            results = [error] * len(there)
        for (_, future), result in zip(there, results, strict=True):
            future.set_result(result)


def unless_error(result: Result | Exception) -> Result:
    """A result; raises it where it is an error.

    A future carries errors as results: one that nobody waits for any more would be logged, and a
    `StopIteration` cannot be raised into it.
    """
    if isinstance(result, Exception):
        raise result
    return result
