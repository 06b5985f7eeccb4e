"""The hash of a row's own key, which is all that is kept of it."""

from __future__ import annotations

import hashlib
from typing import Any

from bento_selfheal.core.ids import KEY_HASH_BYTES


class KeyHasher:
    """Hashes keys with the store's secret.

    A token's keys are its own: another token's same key has another hash.

    Args:
        secret: The store's secret, in hexadecimal.
    """

    def __init__(self, secret: str) -> None:
        self._secret = bytes.fromhex(secret)
        self._begun: dict[str, Any] = {}

    def hash_one(self, key: str, token: str) -> bytes:
        """The hash of a key that comes with a label."""
        one = self.of(token).copy()
        one.update(key.encode())
        digest: bytes = one.digest()
        return digest

    def of(self, token: str) -> Any:
        """A hash that has begun with the secret and a token's name."""
        if token not in self._begun:
            own = hashlib.blake2b(token.encode(), key=self._secret).digest()
            self._begun[token] = hashlib.blake2b(key=own, digest_size=KEY_HASH_BYTES)
        return self._begun[token]
