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

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Generic, TypeVar
from urllib.parse import unquote, urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)

from . import npy
from .decision import decided
from .errors import (
    AccessDenied,
    CommandError,
    InvalidInput,
    ServiceError,
    ServiceUnavailable,
    SettingsError,
)
from .ids import ids_of
from .records import Event, Promotion
from .wire import (
    CLASSES_HEADER,
    NPY,
    REQUEST_HEADER,
    THRESHOLD_HEADER,
    VERIFIED_HEADER,
    VERSION_HEADER,
    CommandAnswer,
    FeedbackCounts,
    FeedbackItem,
    KeptSnapshot,
    Predictions,
)

T = TypeVar("T")
Table = NDArray[Any] | Sequence[Sequence[float]] | Sequence[Mapping[str, float]]
"""Rows as an array ``(n, features)``, as lists in the order of the features, or by name."""
Items = Iterable[FeedbackItem | Mapping[str, Any]]

TIMEOUT = 30.0
TOKEN_VARIABLE = "BENTO_SELFHEAL_TOKEN"  # noqa: S105 - its name
RETRY_SECONDS = 30.0
AWAY = (httpx.ConnectError, httpx.ConnectTimeout)
"""Nothing of the request can have arrived."""
SNAPSHOTS, EVENTS = TypeAdapter(list[KeptSnapshot]), TypeAdapter(list[Event])
PROMOTIONS, PROMOTION = TypeAdapter(list[Promotion]), TypeAdapter(Promotion)
_backoff = wait_random_exponential(multiplier=0.2, max=5.0)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request to the service, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, int] = field(default_factory=dict)
    again: bool = True
    """Whether it may be sent again when the first one may have been carried out."""

    def answer(self, response: httpx.Response) -> T:
        """What the service says to it, or the error that it tells of."""
        try:
            return self.read(_checked(response))
        except (ValueError, KeyError) as error:
            where = f"{response.request.url}: this is no answer of ours"
            raise ServiceError(f"{where}: {error}", response.status_code) from error

    def policy(self, seconds: float) -> dict[str, Any]:
        """When to try again, for tenacity."""
        return {
            "retry": retry_if_exception(self._worth_it),
            "wait": _pause,
            "stop": stop_before_delay(seconds),
            "reraise": True,
        }

    def _worth_it(self, error: BaseException) -> bool:
        if not isinstance(error, ServiceUnavailable):
            return False
        cause = error.__cause__  # none where the service itself refused
        return self.again or cause is None or isinstance(cause, AWAY)


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

    def promotions(self, after: int = 0, limit: int = 1000) -> list[Promotion]:
        """What served when, and why; behind a place of the log, oldest first."""
        return self._send(_list("/promotions", PROMOTIONS, after=after, limit=limit))

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """What happened; behind a place of the log, oldest first."""
        return self._send(_list("/events", EVENTS, after=after, limit=limit))

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

    async def promotions(self, after: int = 0, limit: int = 1000) -> list[Promotion]:
        """As `Client.promotions`."""
        return await self._send(_list("/promotions", PROMOTIONS, after=after, limit=limit))

    async def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """As `Client.events`."""
        return await self._send(_list("/events", EVENTS, after=after, limit=limit))

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


# -- what is sent ---------------------------------------------------------------------------------


def _predict(rows: Table) -> Call[Predictions]:
    if isinstance(rows, np.ndarray) and rows.dtype.kind in "fiu":
        headers = {"Content-Type": NPY, "Accept": NPY}
        return Call("POST", "/predict", _from_file, npy.dump(rows), headers)
    return _post("/predict", {"rows": rows}, _model(Predictions))


def _feedback(items: Items) -> Call[FeedbackCounts]:
    given = [
        item.model_dump(exclude_none=True) if isinstance(item, FeedbackItem) else dict(item)
        for item in items
    ]
    return _post("/feedback", {"items": given}, _model(FeedbackCounts))


def _status() -> Call[dict[str, Any]]:
    return Call("GET", "/status", lambda response: dict(response.json()))


def _list(path: str, kind: TypeAdapter[list[T]], **params: int) -> Call[list[T]]:
    return Call("GET", path, lambda r: kind.validate_json(r.content), params=params)


def _rollback(version: int | None) -> Call[Promotion]:
    body = {} if version is None else {"version": version}
    return _post("/rollback", body, lambda r: PROMOTION.validate_json(r.content), again=False)


def _command(path: str, body: Any = None, *, again: bool = True) -> Call[CommandAnswer]:
    return _post(path, body, _model(CommandAnswer), again=again)


def _post(
    path: str, body: Any, read: Callable[[httpx.Response], T], *, again: bool = True
) -> Call[T]:
    # The standard library writes NaN as it is, so that the service can say where it stands.
    content = b"" if body is None else json.dumps(body, default=_plain).encode()
    headers = {"Content-Type": "application/json"}
    return Call("POST", path, read, content, headers, again=again)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as JSON has them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise InvalidInput(("body",), f"JSON cannot carry {value!r}", "type")


# -- what comes back ------------------------------------------------------------------------------


def _model(kind: Any) -> Callable[[httpx.Response], Any]:
    return lambda response: kind.model_validate_json(response.content)


def _from_file(response: httpx.Response) -> Predictions:
    """A NumPy file of probabilities; the rest stands in headers."""
    said, probabilities = response.headers, npy.read(response.content)
    threshold, classes = float(said[THRESHOLD_HEADER]), json.loads(said[CLASSES_HEADER])
    return Predictions(
        prediction_ids=ids_of(said[REQUEST_HEADER], len(probabilities)),
        probabilities=probabilities.tolist(),
        decisions=[classes[i] for i in decided(probabilities, threshold).tolist()],
        threshold=threshold,
        verified=said[VERIFIED_HEADER] == "true",
        model_version=int(said[VERSION_HEADER]),
    )


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is a good one; else the error that it tells of."""
    if response.is_success:
        return response
    where, status = f"{response.request.url}: {response.status_code}", response.status_code
    if status in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        wait = _seconds(response.headers.get("Retry-After"))
        raise ServiceUnavailable(f"{where} {response.text}", wait)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise AccessDenied(f"{where} {_told(response)}")
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        raise ServiceError(f"{where} {response.text}", status) from None
    if status == httpx.codes.CONFLICT:
        raise CommandError(str(detail))
    if status < httpx.codes.INTERNAL_SERVER_ERROR and isinstance(detail, list) and detail:
        first = detail[0]
        given = f" (got {first['input']!r})" if "input" in first else ""
        raise InvalidInput(tuple(first["loc"]), first["msg"] + given, first["type"])
    raise ServiceError(f"{where} {response.text}", status)


def _told(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text


def _away(url: str, error: httpx.TransportError) -> ServiceUnavailable:
    return ServiceUnavailable(f"{url}: {type(error).__name__} {error}".rstrip())


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header, seconds or a date, in seconds from now."""
    if retry_after is None:
        return None
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return None


def _pause(state: RetryCallState) -> float:
    """Seconds until the next try: what the service asks for, or ever longer ones."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, ServiceUnavailable) else None
    return _backoff(state) if asked is None else asked


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
