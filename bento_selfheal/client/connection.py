"""How a client reaches its service: address, token, transport."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from bento_selfheal.errors import SettingsError

TIMEOUT = 30.0
TOKEN_VARIABLE = "BENTO_SELFHEAL_TOKEN"  # noqa: S105 - its name


def headers_of(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    """Headers of every request: the given ones, and the token if there is one."""
    token = token or os.environ.get(TOKEN_VARIABLE)
    return {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}


def transport_of(url: str, transport: Callable[..., Any]) -> dict[str, Any]:
    """Arguments for httpx to reach the service over TCP or over a local socket.

    Raises:
        SettingsError: The URL has no known scheme.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        socket = transport(uds=unquote(parts.path), verify=False)
        return {"base_url": "http://localhost", "transport": socket}
    if parts.scheme not in ("http", "https"):
        raise SettingsError(f"url: {url!r} must begin with http://, https:// or file://")
    # Loading certificates is slow, and only https needs them.
    return {"base_url": url, "verify": parts.scheme == "https"}
