"""Own keys of rows: checked, and hashed; nothing else of them is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from bento_selfheal.core.text import shown
from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.key_hash import KeyHasher
from bento_selfheal.wire.messages import KEYS_HEADER, LONGEST_KEY, text_of_key

WANTED = f"a text of 1 to {LONGEST_KEY} characters, or an integer, is needed"


class KeyReader(KeyHasher):
    """Checks the keys of requests and hashes them."""

    def read(self, keys: Any, rows: int, token: str) -> bytes:
        """The hash of each row's key, 16 bytes a row; empty where no keys are given.

        Args:
            keys: A list with a text or an integer for each row, or None.
            rows: How many rows the request has.
            token: Name of the token that it came with.

        Raises:
            InvalidInput: Names the key and what is wrong with it.
        """
        if keys is None:
            return b""
        if isinstance(keys, np.ndarray):
            keys = keys.tolist()
        if not isinstance(keys, list):
            raise InvalidInput(("keys",), f"a list of keys is needed, got {shown(keys)}", "type")
        if len(keys) != rows:
            raise InvalidInput(
                ("keys",), f"{len(keys)} keys for {rows} rows: give one each", "keys"
            )
        if (texts := _good_texts(keys)) is None:
            checked = [_text(key, i) for i, key in enumerate(keys)]
            _refuse_second(checked)
            texts = [text.encode() for text in checked]
        copy, hashes = self.of(token).copy, []
        for text in texts:
            one = copy()
            one.update(text)
            hashes.append(one.digest())
        return b"".join(hashes)


def keys_in(headers: Mapping[str, str]) -> Any:
    """The keys in the header of a request whose body has no room for them; None without any.

    Raises:
        InvalidInput: The header is no JSON.
    """
    text = headers.get(KEYS_HEADER)
    return None if text is None else keys_of(text.encode("latin-1", errors="replace"))


def keys_of(text: bytes) -> Any:
    """Keys as JSON.

    Raises:
        InvalidInput: It is none.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(("keys",), f"a JSON list is needed: {error}", "json") from error


def _good_texts(keys: list[Any]) -> list[bytes] | None:
    """The keys as bytes; None where one is no text, or bad, or there twice.

    All are looked at together: one after the other would take as long as their hashes.
    """
    try:
        together, each = "\0".join(keys), set(keys)
        encoded = together.encode()
    except (TypeError, UnicodeEncodeError):
        return None
    if len(each) < len(keys) or "" in each or together.count("\0") >= len(keys):
        return None
    return None if max(map(len, keys)) > LONGEST_KEY else encoded.split(b"\0")


def _text(key: Any, place: int) -> str:
    text = text_of_key(key)
    good = isinstance(text, str) and 0 < len(text) <= LONGEST_KEY
    if not good or "\0" in text or not _is_unicode(text):
        raise InvalidInput(("keys", place), f"{WANTED}, got {shown(key)}", "key")
    return str(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_second(texts: list[str]) -> None:
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        if text in first:
            raise InvalidInput(
                ("keys", i), f"{shown(text)} is the key of row {first[text]} already", "twice"
            )
        first[text] = i
