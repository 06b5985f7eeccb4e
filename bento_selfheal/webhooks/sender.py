"""Sends one event to a receiver, signed, and says what came back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bento_selfheal.config.webhooks.webhook import Webhook
from bento_selfheal.core.records import Event
from bento_selfheal.core.text import visible
from bento_selfheal.errors import brief
from bento_selfheal.webhooks.bodies import Service, body_of, id_of
from bento_selfheal.wire.retry_after import seconds_of

if TYPE_CHECKING:
    import httpx

SECONDS = 10.0
"""Longest wait for a connection, and for each part of an answer."""
LONGEST = 30.0
"""Longest that one attempt may take in all: a receiver may send a byte at a time for ever."""
MOST_SAID = 500
"""Bytes of an answer that are read."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int | None
    """The HTTP status; None where nothing answered."""
    said: str
    """The begin of the answer, or why there was none; never a part of the URL."""
    retry_after: float = 0.0
    """Seconds after which the receiver asks for the next attempt."""

    @property
    def taken(self) -> bool:
        """Whether the receiver has the event."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def reason(self) -> str:
        """Why the receiver does not have it."""
        if self.status is None:
            return self.said
        redirect = ", a redirect, which is not followed" if 300 <= self.status < 400 else ""
        return f"HTTP {self.status}{redirect}"


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature`` of Standard Webhooks, version 1: an HMAC-SHA256.

    >>> signature(b"k" * 24, "s-1", 1700000000, b"{}")
    'v1,HeKF1LE4X4G66++V3BSO59ysM5patpVd/uhygZO+vEA='
    """
    signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Sender:
    """Sends events to one receiver.

    Args:
        hook: Its setting.
    """

    def __init__(self, hook: Webhook) -> None:
        # It logs whole URLs at INFO, and one of these may be a secret.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._hook = hook
        self._http = _client()

    def send(self, event: Event, service: Service) -> Reply:
        """Send an event; whatever goes wrong is in the reply."""
        body = json.dumps(body_of(self._hook, event, service), default=str).encode()
        message_id, now = id_of(event, service), int(time.time())
        headers = {
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": "bento-selfheal",
            "webhook-id": message_id,
            "webhook-timestamp": str(now),
        }
        if key := self._hook.key:
            headers["webhook-signature"] = signature(key, message_id, now, body)
        try:
            return self._post(body, headers)
        except Exception as error:  # a receiver may break any rule of HTTP
            return Reply(None, self._without_secrets(brief(error)))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _post(self, body: bytes, headers: dict[str, str]) -> Reply:
        url = self._hook.url.get_secret_value()
        with (
            self._limited(),
            self._http.stream("POST", url, content=body, headers=headers) as answer,
        ):
            text = visible(_begin(answer).decode(errors="replace"))
            wait = seconds_of(answer.headers.get("retry-after")) or 0.0
            return Reply(answer.status_code, self._without_secrets(text), wait)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Cut an attempt off that takes too long."""
        limit = threading.Timer(LONGEST, self._http.close)
        limit.daemon = True
        limit.start()
        try:
            yield
        except Exception as error:
            if self._http.is_closed:
                raise TimeoutError(f"no whole answer within {LONGEST:g} s") from error
            raise
        finally:
            limit.cancel()
            if self._http.is_closed:
                self._http = _client()

    def _without_secrets(self, text: str) -> str:
        for secret in (self._hook.url, self._hook.secret):
            if value := secret.get_secret_value():
                text = text.replace(value, "…")
        return text


def _client() -> httpx.Client:
    import httpx  # only where there are webhooks

    return httpx.Client(timeout=SECONDS, follow_redirects=False)


def _begin(answer: httpx.Response) -> bytes:
    """The begin of an answer. Its status came before: a body that breaks off changes nothing."""
    said, deadline = b"", time.monotonic() + SECONDS
    with suppress(Exception):
        for part in answer.iter_raw():  # not unpacked: a few bytes may become gigabytes
            said += part
            if len(said) >= MOST_SAID or time.monotonic() > deadline:
                break
    return said[:MOST_SAID]
