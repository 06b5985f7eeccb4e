"""Answers as bytes, and the answers to requests that are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson
from pydantic import ValidatorFunctionWrapHandler
from starlette.responses import JSONResponse

from bento_selfheal.core.text import shown
from bento_selfheal.errors import (
    AccessDenied,
    InvalidInput,
    Overloaded,
    PackageError,
    SelfHealError,
    StoreError,
    escaped,
)
from bento_selfheal.serving.http.rate_limit import RateLimited
from bento_selfheal.wire.messages import FeedbackItem

STATUS = {"too_many": 413, "revisions": 409}
"""Of input that is wrong, by its kind; otherwise 400."""
TOLD = 10
"""Most errors of one request that its answer tells."""


@dataclass(frozen=True)
class Reply:
    """An answer as bytes."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class TooManyItems(list[FeedbackItem]):
    """Stands for more items than a request may carry: only their number counts.

    To validate a million of them, and to say what is wrong with each, would hold everybody up.
    """

    limit: ClassVar[float] = math.inf

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def unless_too_many(items: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Validate a list of items, unless there are more than the limit."""
    if isinstance(items, list) and len(items) > TooManyItems.limit:
        return TooManyItems(len(items))
    return handler(items)


def as_reply(response: JSONResponse) -> Reply:
    """A response as the fast path sends it; lengths and types of the body are its own to say."""
    told = {k: v for k, v in response.headers.items() if not k.startswith("content-")}
    return Reply(bytes(response.body), response.status_code, headers=told)


def refused(error: InvalidInput) -> JSONResponse:
    """The answer to input that is wrong: 400, 413 where it is too much, or 409 where a row has had
    too many labels."""
    return JSONResponse(error.body(), _status(error))


def refused_bytes(error: InvalidInput) -> Reply:
    """The same as `refused`, as bytes."""
    return Reply(orjson.dumps(error.body()), _status(error))


def denied(error: AccessDenied) -> JSONResponse:
    """The answer to a token that names a source which is not its own: 403."""
    return JSONResponse({"error": str(error)}, 403)


def failed(error: PackageError) -> JSONResponse:
    """The answer where the model fails, whatever row it is asked for: 500."""
    return JSONResponse({"error": escaped(str(error))}, 500)


def rate_limited(limited: RateLimited) -> JSONResponse:
    """The answer to labels over the rate limit: 429 with Retry-After."""
    headers = {"Retry-After": str(limited.seconds)}
    return JSONResponse({"error": limited.why}, 429, headers=headers)


def unavailable(error: StoreError | Overloaded) -> JSONResponse:
    """The answer while the store is out of reach or the model is busy: 503 with Retry-After."""
    return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})


def conflict(error: SelfHealError) -> JSONResponse:
    """The answer to a command that cannot be carried out now: 409."""
    return JSONResponse({"error": str(error)}, 409)


def unknown(error: SelfHealError) -> JSONResponse:
    """The answer to a command about something that is not there: 404."""
    return JSONResponse({"error": str(error)}, 404)


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """The answer to a request of operators that does not validate: 422, with each field named.

    Args:
        errors: As pydantic gives them, with ``loc``, ``msg`` and ``type``; a place begins with the
            part of the request.
    """
    detail = [_told(error) for error in errors[:TOLD]]
    text = "; ".join(_line(one["loc"][1:] or one["loc"], one["msg"]) for one in detail)
    return JSONResponse({"error": text, "detail": detail}, 422)


def invalid_body(errors: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """The answer to rows or labels that do not validate: 400, with each field named.

    Args:
        errors: As pydantic gives them, with ``loc``, ``msg`` and ``type``.
    """
    detail = [_told(error) for error in errors[:TOLD]]
    text = "; ".join(_line(one["loc"] or ["body"], one["msg"]) for one in detail)
    return JSONResponse({"error": text, "detail": detail}, 400)


def _told(error: Mapping[str, Any]) -> dict[str, Any]:
    """One of pydantic's errors, with the value that was given."""
    given = error.get("input")
    if error["type"] == "missing" and isinstance(given, Mapping):
        said = f"missing, got the fields {shown([escaped(str(key)) for key in given])}"
    elif error["type"] == "extra_forbidden":
        said = f"unknown field, got {shown(given)}"
    else:
        said = f"{escaped(error['msg'])}, got {shown(given)}"
    loc = [escaped(part) if isinstance(part, str) else part for part in error["loc"]]
    return {"loc": loc, "msg": said, "type": error["type"]}


def _line(place: Sequence[str | int], said: str) -> str:
    return f"{'.'.join(str(part) for part in place)}: {said}"


def _status(error: InvalidInput) -> int:
    return STATUS.get(error.kind, 400)
