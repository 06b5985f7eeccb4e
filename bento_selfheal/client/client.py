"""A client of the service, sync and async; it imports neither torch nor BentoML.

```python
with Client("http://localhost:3000") as client:
    answer = client.predict(rows)
    ...
    client.feedback(
        [FeedbackItem(prediction_id=i, label=y) for i, y in zip(answer.prediction_ids, labels)]
    )
```

What is worth another try is tried again, until `retry_seconds` are over: a connection that fails,
503 and 429, after the seconds that `Retry-After` asks for. A label counts once, so feedback may
be sent twice; `heal` and `rollback` are sent again only where nothing can have arrived.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from tenacity import AsyncRetrying, Retrying

from bento_selfheal.client.calls import (
    EVENTS,
    PROMOTIONS,
    RETRY_SECONDS,
    SNAPSHOTS,
    Call,
    Items,
    T,
    Table,
    _away,
    _command,
    _feedback,
    _list,
    _predict,
    _rollback,
    _status,
)
from bento_selfheal.core.records import Event, Promotion
from bento_selfheal.errors import SettingsError
from bento_selfheal.wire.messages import CommandAnswer, FeedbackCounts, KeptSnapshot, Predictions

TIMEOUT = 30.0
TOKEN_VARIABLE = "BENTO_SELFHEAL_TOKEN"  # noqa: S105 - its name


class Client(AbstractContextManager["Client"]):
    """A client of one service.

    Args:
        url: Where it is, e.g. ``http://localhost:3000``; also the ``url`` of a service that another
            one depends on, a local socket.
        timeout: Seconds that one try may take.
        retry_seconds: Seconds after which no further try begins; 0 tries once.
        headers: Sent with every request.
        token: Bearer token; the variable BENTO_SELFHEAL_TOKEN where none is given.

    Raises:
        SettingsError: The URL is none.
    """

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
        way = _way(url, httpx.HTTPTransport)
        self._http = httpx.Client(timeout=timeout, headers=_headers(headers, token), **way)
        self._retry_seconds = retry_seconds

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def predict(self, rows: Table) -> Predictions:
        """Answer a batch of rows; an array of numbers goes as a NumPy file, which is fastest.

        Raises:
            InvalidInput: Names the row, the field and the value, as the service said.
            AccessDenied: The token is missing, unknown or of another role; so for every call.
            ServiceUnavailable: Out of reach, through all tries; so for every call.
            ServiceError: The service failed; so for every call.
        """
        return self._send(_predict(rows))

    def feedback(self, items: Items) -> FeedbackCounts:
        """Give labels. Accepted ones are on disk when this returns; each counts once.

        Raises:
            InvalidInput: An item is malformed; none of them was kept.
        """
        return self._send(_feedback(items))

    def status(self) -> dict[str, Any]:
        """Where the service stands."""
        return self._send(_status())

    def snapshots(self) -> list[KeptSnapshot]:
        """What it could go back to."""
        return self._send(_list("/snapshots", SNAPSHOTS))

    def promotions(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Promotion]:
        """The newest promotions, oldest first: what served when, and why.

        Args:
            after: Only those after this place of the log, the oldest of them.
            limit: Most to return, at most 10,000.
            before: Only those before this place of the log.
        """
        page = {"after": after, "before": before, "limit": limit}
        return self._send(_list("/promotions", PROMOTIONS, **page))

    def events(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Event]:
        """The newest events, oldest first.

        Args:
            after: Only those after this place of the log, the oldest of them.
            limit: Most to return, at most 10,000.
            before: Only those before this place of the log.
        """
        page = {"after": after, "before": before, "limit": limit}
        return self._send(_list("/events", EVENTS, **page))

    def rollback(self, version: int | None = None) -> Promotion:
        """Serve an older snapshot, the best one where none is named.

        Raises:
            CommandError: There is no such snapshot, or it serves already.
        """
        return self._send(_rollback(version))

    def pause(self) -> CommandAnswer:
        """Stop healing for now."""
        return self._send(_command("/pause"))

    def observe(self) -> CommandAnswer:
        """Heal, but promote nothing."""
        return self._send(_command("/observe"))

    def resume(self) -> CommandAnswer:
        """Heal again."""
        return self._send(_command("/resume"))

    def heal(self) -> CommandAnswer:
        """Heal now."""
        return self._send(_command("/heal", again=False))

    def forget(self, source: str) -> CommandAnswer:
        """Learn from a source of feedback no more and drop what it taught."""
        return self._send(_command("/forget", {"source": source}))

    def _send(self, call: Call[T]) -> T:
        answer: T = Retrying(**call.policy(self._retry_seconds))(self._once, call)
        return answer

    def _once(self, call: Call[T]) -> T:
        try:
            response = self._http.request(
                call.method, call.path,
                content=call.content, headers=call.headers, params=call.params,
            )  # fmt: skip
        except httpx.TransportError as error:
            raise _away(self.url, error) from error
        return call.answer(response)


class AsyncClient(AbstractAsyncContextManager["AsyncClient"]):
    """The same for asyncio: takes what `Client` takes, answers and raises what it does."""

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
        way = _way(url, httpx.AsyncHTTPTransport)
        self._http = httpx.AsyncClient(timeout=timeout, headers=_headers(headers, token), **way)
        self._retry_seconds = retry_seconds

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def predict(self, rows: Table) -> Predictions:
        """As `Client.predict`."""
        return await self._send(_predict(rows))

    async def feedback(self, items: Items) -> FeedbackCounts:
        """As `Client.feedback`."""
        return await self._send(_feedback(items))

    async def status(self) -> dict[str, Any]:
        """As `Client.status`."""
        return await self._send(_status())

    async def snapshots(self) -> list[KeptSnapshot]:
        """As `Client.snapshots`."""
        return await self._send(_list("/snapshots", SNAPSHOTS))

    async def promotions(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Promotion]:
        """As `Client.promotions`."""
        page = {"after": after, "before": before, "limit": limit}
        return await self._send(_list("/promotions", PROMOTIONS, **page))

    async def events(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Event]:
        """As `Client.events`."""
        page = {"after": after, "before": before, "limit": limit}
        return await self._send(_list("/events", EVENTS, **page))

    async def rollback(self, version: int | None = None) -> Promotion:
        """As `Client.rollback`."""
        return await self._send(_rollback(version))

    async def pause(self) -> CommandAnswer:
        """As `Client.pause`."""
        return await self._send(_command("/pause"))

    async def observe(self) -> CommandAnswer:
        """Heal, but promote nothing."""
        return await self._send(_command("/observe"))

    async def resume(self) -> CommandAnswer:
        """As `Client.resume`."""
        return await self._send(_command("/resume"))

    async def heal(self) -> CommandAnswer:
        """As `Client.heal`."""
        return await self._send(_command("/heal", again=False))

    async def forget(self, source: str) -> CommandAnswer:
        """As `Client.forget`."""
        return await self._send(_command("/forget", {"source": source}))

    async def _send(self, call: Call[T]) -> T:
        return await AsyncRetrying(**call.policy(self._retry_seconds))(self._once, call)

    async def _once(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(
                call.method, call.path,
                content=call.content, headers=call.headers, params=call.params,
            )  # fmt: skip
        except httpx.TransportError as error:
            raise _away(self.url, error) from error
        return call.answer(response)


def _headers(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    token = token or os.environ.get(TOKEN_VARIABLE)
    return {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}


def _way(url: str, transport: Callable[..., Any]) -> dict[str, Any]:
    """To the service over TCP, or over a local socket; httpx's arguments."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        socket = transport(uds=unquote(parts.path), verify=False)
        return {"base_url": "http://localhost", "transport": socket}
    if parts.scheme not in ("http", "https"):
        raise SettingsError(f"url: {url!r} begins with neither http://, https:// nor file://")
    # Certificates are slow to load, and only https asks for them.
    return {"base_url": url, "verify": parts.scheme == "https"}
