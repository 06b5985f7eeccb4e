"""Answers to requests that are refused."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import ValidatorFunctionWrapHandler
from starlette.responses import JSONResponse

from bento_selfheal.errors import InvalidInput, StoreError
from bento_selfheal.serving.http.rate_limit import Wait
from bento_selfheal.wire.messages import FeedbackItem


class _TooMany(list[FeedbackItem]):
    """Stands for more items than a request may carry, of which only the number counts: to look at a
    million of them, and to tell what is wrong with each, would hold everybody up."""

    limit: ClassVar[float] = math.inf

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def __len__(self) -> int:
        return self._count


def _unless_too_many(items: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(items, list) and len(items) > _TooMany.limit:
        return _TooMany(len(items))
    return handler(items)


def _refused(error: InvalidInput) -> Any:
    return JSONResponse(error.body(), _status(error))


def _status(error: InvalidInput) -> int:
    return 413 if error.kind == "too_many" else 400


def _too_many(wait: Wait) -> Any:
    return JSONResponse({"error": wait.why}, 429, headers={"Retry-After": str(wait.seconds)})


def _unavailable(error: StoreError) -> Any:
    return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})
