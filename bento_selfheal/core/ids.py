"""Prediction ids: signed, so that any worker knows one that was issued, without a look-up.

``<32 characters>.<row>``: a request key, the number of rows, and a truncated HMAC-SHA256 over
both under the store's secret. They cannot be guessed, and they stay valid over restarts.

A key is 48 bits of milliseconds since the epoch, one bit that is set where the request is left out
of the log, and 47 random bits. As keys grow with time, what is written next lies side by side in
the store's indexes, however large they are, and a key tells how old its request is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time

KEY_HASH_BYTES = 16
"""Of a row's own key only a hash of this length is kept."""
KEY_BYTES = 12
TIME_BYTES = 6
LEFT_OUT = 0x80
ROWS_BYTES = 3
MAC_BYTES = 9
TOKEN_CHARS = (KEY_BYTES + ROWS_BYTES + MAC_BYTES) * 4 // 3


def key_at(keys: bytes, row: int) -> bytes:
    """The hash of a row's own key, of those of a request one after the other; empty beyond."""
    return keys[row * KEY_HASH_BYTES : (row + 1) * KEY_HASH_BYTES]


class IdSigner:
    """Issues and reads prediction ids.

    Args:
        secret: The store's secret, in hexadecimal.
    """

    def __init__(self, secret: str) -> None:
        self._secret = bytes.fromhex(secret)

    def issue(self, rows: int, *, logged: bool = True) -> tuple[bytes, str]:
        """A new request key, and the text before the dot of its rows' ids."""
        drawn = bytearray(secrets.token_bytes(KEY_BYTES - TIME_BYTES))
        drawn[0] = drawn[0] & ~LEFT_OUT if logged else drawn[0] | LEFT_OUT
        now = (time.time_ns() // 1_000_000).to_bytes(TIME_BYTES, "big")
        head = now + drawn + rows.to_bytes(ROWS_BYTES, "big")
        return head[:KEY_BYTES], self._token(head)

    def token_of(self, request: bytes, rows: int) -> str:
        """The text before the dot of the ids that `issue` gave to a request."""
        return self._token(request + rows.to_bytes(ROWS_BYTES, "big"))

    def read(self, prediction_id: str) -> tuple[bytes, int] | None:
        """(request key, row) of an id that was issued here; None for any other text."""
        token, dot, number = prediction_id.partition(".")
        if not dot or len(token) != TOKEN_CHARS or not (number.isascii() and number.isdigit()):
            return None
        if "+" in token or "/" in token:
            return None  # the decoder would take them for - and _
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        head, mac = raw[: KEY_BYTES + ROWS_BYTES], raw[KEY_BYTES + ROWS_BYTES :]
        if len(number) > 8 or (number[0] == "0" and number != "0"):
            return None
        if not hmac.compare_digest(mac, self._mac(head)):
            return None
        row = int(number)
        if row >= int.from_bytes(head[KEY_BYTES:], "big"):
            return None
        return head[:KEY_BYTES], row

    def _token(self, head: bytes) -> str:
        return base64.urlsafe_b64encode(head + self._mac(head)).decode()

    def _mac(self, head: bytes) -> bytes:
        return hmac.digest(self._secret, head, hashlib.sha256)[:MAC_BYTES]


def ids_of(token: str, rows: int) -> list[str]:
    """The ids of a request's rows.

    >>> ids_of("abc", 2)
    ['abc.0', 'abc.1']
    """
    return [f"{token}.{row}" for row in range(rows)]


def issued_at(request: bytes) -> float:
    """When a request key was made, in seconds since the epoch.

    >>> issued_at((1500).to_bytes(6, "big") + bytes(6))
    1.5
    """
    return int.from_bytes(request[:TIME_BYTES], "big") / 1000


def is_logged(request: bytes) -> bool:
    """Whether the request of this key was meant for the log."""
    return not request[TIME_BYTES] & LEFT_OUT
