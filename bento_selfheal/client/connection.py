"""How a client reaches its service: address, token, transport."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from bento_selfheal.errors import SettingsError

TIMEOUT = 30.0
SHOWN = 100
"""Characters of a wrong URL that a message shows."""
VISIBLE = re.compile(r"[\x21-\x7e]+")
TOKEN_VARIABLE = "BENTO_SELFHEAL_TOKEN"  # noqa: S105 - its name


def headers_of(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    """Headers of every request: the given ones, and the token if there is one.

    Raises:
        SettingsError: No header can carry the token; the message does not show it.
    """
    # A file that a variable is read from ends with a line break.
    token = (token or os.environ.get(TOKEN_VARIABLE, "")).strip()
    if token and not VISIBLE.fullmatch(token):
        raise SettingsError(
            f"token: a token, also that of {TOKEN_VARIABLE}, has visible ASCII characters only"
        )
    return {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}


def transport_of(url: str, transport: Callable[..., Any]) -> dict[str, Any]:
    """Arguments for httpx to reach the service over TCP or over a local socket.

    Raises:
        SettingsError: The URL has no known scheme, or cannot be read.
    """
    try:
        parts = urlsplit(url)
        httpx.URL(url).host.encode("idna")  # as the socket will, in the middle of a request
    except (httpx.InvalidURL, ValueError) as error:
        raise SettingsError(f"url: {_brief(repr(url))} is none: {_brief(str(error))}") from error
    if parts.scheme == "file":
        socket = transport(uds=unquote(parts.path), verify=False)
        return {"base_url": "http://localhost", "transport": socket}
    if parts.scheme not in ("http", "https"):
        raise SettingsError(
            f"url: {_brief(repr(url))} must begin with http://, https:// or file://"
        )
    # Loading certificates is slow, and only https needs them.
    return {"base_url": url, "verify": parts.scheme == "https"}


def _brief(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
