"""A client of the service, sync and async; it imports neither torch nor BentoML.

```python
with Client("http://localhost:3000") as client:
    answer = client.predict(rows)
    ...
    client.feedback(
        [FeedbackItem(prediction_id=i, label=y) for i, y in zip(answer.prediction_ids, labels)]
    )
```

Failed connections and the statuses 503 and 429 are retried for `retry_seconds`, after the pause
that `Retry-After` asks for. A label counts once, so feedback may be sent twice; `heal` and
`rollback` are sent again only when the first request cannot have arrived.
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
        url: Its address, e.g. ``http://localhost:3000``; or the ``url`` of a BentoML dependency,
            which is a local socket.
        timeout: Seconds that one attempt may take.
        retry_seconds: Seconds after which no further attempt begins; 0 makes one attempt.
        headers: Sent with every request.
        token: Bearer token; by default that of the variable BENTO_SELFHEAL_TOKEN.

    Raises:
        SettingsError: The URL has no known scheme.
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
        """Close the connections."""
        self._http.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def predict(self, rows: Table) -> Predictions:
        """Predict a batch of rows. A NumPy array is sent as a NumPy file, which is fastest.

        Raises:
            InvalidInput: The service refused a value; the message names row, field and value.
            AccessDenied: The token is missing, unknown or of another role; any call may raise it.
            ServiceUnavailable: No attempt reached the service; any call may raise it.
            ServiceError: The service failed; any call may raise it.
        """
        return self._send(_predict(rows))

    def feedback(self, items: Items) -> FeedbackCounts:
        """Send labels. Accepted ones are on disk when this returns; each counts once.

        Raises:
            InvalidInput: An item is malformed; none of the items was kept.
        """
        return self._send(_feedback(items))

    def status(self) -> dict[str, Any]:
        """The status of the service."""
        return self._send(_status())

    def snapshots(self) -> list[KeptSnapshot]:
        """The snapshots that a rollback can restore."""
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
        """Serve an older snapshot; by default the best one.

        Raises:
            CommandError: There is no such snapshot, or it serves already.
        """
        return self._send(_rollback(version))

    def pause(self) -> CommandAnswer:
        """Stop heals, promotions and rollbacks until `resume`."""
        return self._send(_command("/pause"))

    def observe(self) -> CommandAnswer:
        """Keep healing, but promote nothing."""
        return self._send(_command("/observe"))

    def resume(self) -> CommandAnswer:
        """Resume heals and promotions."""
        return self._send(_command("/resume"))

    def heal(self) -> CommandAnswer:
        """Heal once on the labels received so far."""
        return self._send(_command("/heal", again=False))

    def forget(self, source: str) -> CommandAnswer:
        """Quarantine a source of labels and remove what it taught."""
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
        way = _way(url, httpx.AsyncHTTPTransport)
        self._http = httpx.AsyncClient(timeout=timeout, headers=_headers(headers, token), **way)
        self._retry_seconds = retry_seconds

    async def close(self) -> None:
        """Close the connections."""
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
        """As `Client.observe`."""
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
    """Arguments for httpx to reach the service over TCP or over a local socket."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        socket = transport(uds=unquote(parts.path), verify=False)
        return {"base_url": "http://localhost", "transport": socket}
    if parts.scheme not in ("http", "https"):
        raise SettingsError(f"url: {url!r} must begin with http://, https:// or file://")
    # Loading certificates is slow, and only https needs them.
    return {"base_url": url, "verify": parts.scheme == "https"}
