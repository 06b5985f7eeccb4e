"""Requests that an endpoint of BentoML's refuses, answered as every other refusal is.

BentoML itself answers with pydantic's words, and writes an error with a traceback to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from bentoml.exceptions import BentoMLException
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse

from bento_selfheal.core.text import shown
from bento_selfheal.errors import brief, escaped
from bento_selfheal.internals import BAD_FORM, get_route_path
from bento_selfheal.serving.http.replies import invalid_body

log = logging.getLogger(__name__)

INPUT = "Input"
"""What BentoML calls the model that it reads a body into."""
READ = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
"""Content types that BentoML reads; a body of another one is tried as JSON."""


def refusal(
    request: Request, error: Exception, *, more: Mapping[str, Callable[[], Sequence[str]]]
) -> JSONResponse | None:
    """The answer to a request that is wrong; None where the fault is the service's.

    Args:
        request: The request.
        error: What BentoML says of it.
        more: By path the content types besides JSON that are taken there.
    """
    kind = request.headers.get("content-type", READ[0]).partition(";")[0].strip().lower()
    others = more.get(get_route_path(request.scope))
    taken = [READ[0], *(others() if others else ())]
    if isinstance(error, BentoMLException):
        if error.error_code is HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
            return _unread(kind, taken)
        return _client_error(request, error)
    if not isinstance(error, ValidationError) or error.title != INPUT:
        return None
    errors = error.errors(include_url=False, include_context=False)
    if errors[0]["type"] == BAD_FORM:
        return _unread(kind, taken, "is read here where each field is a JSON text, and no file")
    if kind not in READ and errors[0]["type"] == "json_invalid":
        return _unread(kind, taken)
    return invalid_body(errors)


def _client_error(request: Request, error: BentoMLException) -> JSONResponse | None:
    """What BentoML answers where an endpoint raises a 4xx, with one line in the log."""
    status = error.error_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return None
    log.warning("%s %s: %d %s", request.method, request.url.path, status, brief(error))
    private = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    return JSONResponse(
        {"error": "Authorization error" if private else escaped(str(error))}, status
    )


def _unread(kind: str, taken: Sequence[str], why: str = "is not read here") -> JSONResponse:
    error = f"Content-Type: {shown(kind)} {why}; send {' or '.join(taken)}"
    return JSONResponse({"error": error}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
