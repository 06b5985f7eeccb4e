"""How a client reaches its service: address, token, transport."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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


def address_of(url: str) -> tuple[str, str | None]:
    """The URL that requests begin with, and the local socket that they go to, if they do.

    Raises:
        SettingsError: The URL has no known scheme, or cannot be read.
    """
    try:
        parts = urlsplit(url)
        httpx.URL(url).host.encode("idna")  # as the socket will, in the middle of a request
    except (httpx.InvalidURL, ValueError) as error:
        raise SettingsError(f"url: {_brief(repr(url))} is none: {_brief(str(error))}") from error
    if parts.scheme == "file":
        return "http://localhost", unquote(parts.path)
    if parts.scheme not in ("http", "https"):
        raise SettingsError(
            f"url: {_brief(repr(url))} must begin with http://, https:// or file://"
        )
    return url, None


def _brief(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
