"""What the service answered, and the error that it reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from bento_selfheal.errors import (
    AccessDenied,
    CommandError,
    InvalidInput,
    ServiceError,
    ServiceUnavailable,
    UnknownRow,
)
from bento_selfheal.wire.class_list import CLASSES_PATH
from bento_selfheal.wire.retry_after import seconds_of


@dataclass(slots=True, eq=False)  # frozen ones take microseconds to make, of each request
class Reply:
    """What the service answered, whichever library asked."""

    url: str
    status_code: int
    headers: Mapping[str, str]
    """Names in any case."""
    content: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON values."""
        return json.loads(self.content)


def checked(response: Reply) -> Reply:
    """The response if it succeeded; raises the error that it reports otherwise."""
    if httpx.codes.is_success(response.status_code):
        return response
    where, status = f"{response.url}: {response.status_code}", response.status_code
    if status in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        wait = seconds_of(response.headers.get("Retry-After"))
        raise ServiceUnavailable(f"{where} {response.text}", wait)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise AccessDenied(f"{where} {_told(response)}")
    if status == httpx.codes.CONFLICT:
        raise CommandError(_told(response))
    if status == httpx.codes.NOT_FOUND:
        path = urlsplit(response.url).path
        if path.endswith("/erase"):
            raise UnknownRow(_told(response))
        if path.endswith(CLASSES_PATH):  # another model is served since: its answer names others
            raise ServiceUnavailable(f"{where} {response.text}", 0.0)
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        raise ServiceError(f"{where} {response.text}", status) from None
    if status < httpx.codes.INTERNAL_SERVER_ERROR and isinstance(detail, list) and detail:
        first = detail[0]
        given = f" (got {first['input']!r})" if "input" in first else ""
        raise InvalidInput(tuple(first["loc"]), first["msg"] + given, first["type"])
    raise ServiceError(f"{where} {response.text}", status)


def _told(response: Reply) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text
