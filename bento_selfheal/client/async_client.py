"""The client for asyncio."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import httpx
from tenacity import AsyncRetrying

from bento_selfheal.client.calls import (
    EVENTS,
    PROMOTIONS,
    RETRY_SECONDS,
    SNAPSHOTS,
    Call,
    Facts,
    Items,
    Keys,
    Rows,
    T,
    begin_candidate_call,
    candidates_call,
    command_call,
    end_candidate_call,
    erase_call,
    feedback_call,
    label_call,
    list_call,
    predict_call,
    rollback_call,
    status_call,
    unreachable,
)
from bento_selfheal.client.connection import TIMEOUT, address_of, headers_of
from bento_selfheal.client.known_classes import KnownClasses
from bento_selfheal.core.records import Event, Promotion
from bento_selfheal.errors import ServiceUnavailable
from bento_selfheal.wire.messages import (
    CommandAnswer,
    ErasureAnswer,
    FeedbackCounts,
    KeptSnapshot,
    Predictions,
    TableCounts,
)


class AsyncClient(AbstractAsyncContextManager["AsyncClient"]):
    """`Client` for asyncio, with the same arguments, answers and errors."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        retry_seconds: float = RETRY_SECONDS,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        # aiohttp takes a while to load, and the client for threads needs none.
        from bento_selfheal.client.aiohttp_connection import AiohttpConnection

        self._connection = AiohttpConnection(
            *address_of(url), timeout=timeout, headers=headers_of(headers, token)
        )
        self._known = KnownClasses()
        self._retry_seconds = retry_seconds

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def predict(
        self, rows: Rows, facts: Facts | None = None, keys: Keys | None = None
    ) -> Predictions:
        """As `Client.predict`."""
        return await self._send(predict_call(rows, facts, keys, known=self._known))

    async def feedback(self, items: Items) -> FeedbackCounts:
        """As `Client.feedback`."""
        return await self._send(feedback_call(items))

    async def label(self, table: Any, *, keep_good: bool = False) -> TableCounts:
        """As `Client.label`."""
        return await self._send(label_call(table, keep_good=keep_good))

    async def status(self) -> dict[str, Any]:
        """As `Client.status`."""
        return await self._send(status_call())

    async def snapshots(self) -> list[KeptSnapshot]:
        """As `Client.snapshots`."""
        return await self._send(list_call("/snapshots", SNAPSHOTS))

    async def promotions(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Promotion]:
        """As `Client.promotions`."""
        page = {"after": after, "before": before, "limit": limit}
        return await self._send(list_call("/promotions", PROMOTIONS, **page))

    async def events(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Event]:
        """As `Client.events`."""
        page = {"after": after, "before": before, "limit": limit}
        return await self._send(list_call("/events", EVENTS, **page))

    async def rollback(self, version: int | None = None) -> Promotion:
        """As `Client.rollback`."""
        return await self._send(rollback_call(version))

    async def begin_candidate(
        self, tag: str, *, ramp: list[float] | None = None, min_labels: int | None = None
    ) -> dict[str, Any]:
        """As `Client.begin_candidate`."""
        return await self._send(begin_candidate_call(tag, ramp, min_labels))

    async def end_candidate(self, tag: str, *, promote: bool = False) -> dict[str, Any]:
        """As `Client.end_candidate`."""
        return await self._send(end_candidate_call(tag, promote=promote))

    async def candidates(self) -> list[dict[str, Any]]:
        """As `Client.candidates`."""
        return await self._send(candidates_call())

    async def pause(self) -> CommandAnswer:
        """As `Client.pause`."""
        return await self._send(command_call("/pause"))

    async def observe(self) -> CommandAnswer:
        """As `Client.observe`."""
        return await self._send(command_call("/observe"))

    async def resume(self) -> CommandAnswer:
        """As `Client.resume`."""
        return await self._send(command_call("/resume"))

    async def heal(self) -> CommandAnswer:
        """As `Client.heal`."""
        return await self._send(command_call("/heal", again=False))

    async def forget(self, source: str) -> CommandAnswer:
        """As `Client.forget`."""
        return await self._send(command_call("/forget", {"source": source}))

    async def erase(
        self,
        key: str | int | None = None,
        *,
        prediction_id: str | None = None,
        token_name: str | None = None,
    ) -> ErasureAnswer:
        """As `Client.erase`."""
        return await self._send(erase_call(key, prediction_id, token_name))

    async def thresholds(self, **changes: float | None) -> CommandAnswer:
        """As `Client.thresholds`."""
        return await self._send(command_call("/thresholds", changes))

    async def release(self, source: str) -> CommandAnswer:
        """As `Client.release`."""
        return await self._send(command_call("/release", {"source": source}))

    async def _send(self, call: Call[T]) -> T:
        began = time.monotonic()
        try:
            return await self._once(call)
        except ServiceUnavailable as error:
            failed = error
        left = max(self._retry_seconds - (time.monotonic() - began), 0.0)
        tried = [failed]

        async def again() -> T:
            if tried:
                raise tried.pop()  # the attempt above, so that its wait is kept
            return await self._once(call)

        # tenacity alone costs a third of a request that succeeds.
        return await AsyncRetrying(**call.policy(left))(again)

    async def _once(self, call: Call[T]) -> T:
        try:
            reply = await self._connection.send(call)
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error
        if (first := call.needs(reply)) is not None:
            await self._once(first)
        return call.answer(reply)
