"""Requests that have come by the same moment are answered together.

A model takes about as long for one row as for fifty, so a worker under load answers many more
requests. Nobody waits for others to come: whoever is there when the event loop gets to it is
answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from bento_selfheal.serving.worker import Answer

Asked = TypeVar("Asked")
"""Rows ``(n, features)``, or the inputs of a network."""


class Gathering(Generic[Asked]):
    """Gathers what one turn of the event loop brings.

    Args:
        answer_all: Gives the answer to each request, or the error that it gets instead.
    """

    def __init__(self, answer_all: Callable[[Sequence[Asked]], list[Answer | Exception]]) -> None:
        self._answer_all = answer_all
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []

    async def answer(self, rows: Asked) -> Answer:
        """Answer one request with those that came beside it.

        Raises:
            Exception: Its own error; an error of another request does not reach it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((rows, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._answer_waiting)
        return await future

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        there = [(rows, future) for rows, future in waiting if not future.cancelled()]
        try:
            answers = self._answer_all([rows for rows, _ in there])
        except Exception as error:  # nobody may wait for ever
            answers = [error] * len(there)
        for (_, future), answer in zip(there, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
