"""How the asyncio client sends its calls: over connections of aiohttp.

httpx looks through all of its connections for each request and keeps 20 open: with 64 requests at
once it spends its time on that.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from bento_selfheal.client.calls import Call
from bento_selfheal.client.reply import Reply

ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (Exception, httpx.ReadError),
)
"""aiohttp's errors and httpx's, by which calls are tried again: those of connecting say that
nothing can have arrived."""


class AiohttpConnection:
    """As many connections to a service as there are requests at once.

    Args:
        base: What URLs begin with.
        socket: Path of a local socket to reach the service by; None to reach it over TCP.
        timeout: Seconds to wait for a connection, and for each part of an answer.
        headers: Of every request.
    """

    def __init__(
        self, base: str, socket: str | None, timeout: float, headers: Mapping[str, str]
    ) -> None:
        self._base = base.rstrip("/")
        self._socket = socket
        self._timeout = aiohttp.ClientTimeout(sock_connect=timeout, sock_read=timeout)
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None

    async def send(self, call: Call[Any]) -> Reply:
        """Send a call, and read the whole answer.

        Raises:
            httpx.TransportError: The service could not be reached, or broke off.
        """
        session = self._session or self._opened()
        url = self._base + call.path
        try:
            # Without its block: the last byte that is read gives the connection back.
            answer = await session.request(
                call.method, url, params=call.params or None, headers=call.headers,
                data=call.content or None, allow_redirects=False,
            )  # fmt: skip
            content = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            kind = next(to for given, to in ERRORS if isinstance(error, given))
            raise kind(str(error)) from error
        return Reply(url, answer.status, answer.headers, content)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        """The session, which belongs to the loop that first asks for it."""
        if self._session is None:
            # Loading certificates is slow, and only https needs them.
            secure = self._base.startswith("https:")
            tls: ssl.SSLContext | bool = httpx.create_ssl_context() if secure else False
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(self._socket, limit=0)
                if self._socket
                else aiohttp.TCPConnector(limit=0, ssl=tls)
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                proxy=None if self._socket else _proxy_to(self._base),
            )
        return self._session


def _proxy_to(url: str) -> str | None:
    """The proxy that the environment names for a URL; aiohttp would look for it at each request."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
