"""Bodies that come encoded: gzip is unpacked up to a size, and every other encoding refused."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from starlette.types import Scope

from bento_selfheal.serving.http.access_rules import Refusal

PLAIN, PACKED = (b"", b"identity"), (b"gzip", b"x-gzip")
OF_GZIP = zlib.MAX_WBITS | 16
"""Window bits with which zlib reads a gzip header."""


def encoding_of(headers: Mapping[bytes, bytes]) -> bytes:
    """The Content-Encoding, empty where there is none."""
    return headers.get(b"content-encoding", b"").strip().lower()


def unknown(encoding: bytes) -> Refusal | None:
    """Why a body of this encoding is refused; None where it is read."""
    if encoding in PLAIN or encoding in PACKED:
        return None
    shown = encoding[:50].decode("ascii", "replace")
    error = f"Content-Encoding: {shown!r} is not read here; send gzip, or none"
    return Refusal(415, error, {"Accept-Encoding": "gzip"}, kind="encoding")


def unpack(body: bytes, most: int) -> bytes | Refusal:
    """What a gzip body holds, or its first ``most + 1`` bytes: a bomb is not unpacked whole."""
    packed = zlib.decompressobj(OF_GZIP)
    try:
        whole = packed.decompress(body, most + 1)
    except zlib.error as error:
        return _bad(str(error))
    if len(whole) > most:
        return whole
    # One stream alone: a body of a million empty ones would take minutes.
    if not packed.eof or packed.unused_data:
        return _bad("it ends early" if not packed.eof else "something follows its end")
    return whole


def unpacked(scope: Scope, size: int) -> Scope:
    """The same request with a plain body of this size."""
    replaced = (b"content-encoding", b"content-length", b"transfer-encoding")
    headers = [(k, v) for k, v in scope["headers"] if k not in replaced]
    return {**scope, "headers": [*headers, (b"content-length", str(size).encode())]}


def _bad(why: str) -> Refusal:
    return Refusal(400, f"the body is not gzip, as its Content-Encoding says: {why}", kind="gzip")
