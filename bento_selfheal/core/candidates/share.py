"""Which requests belong to a share of them: always the same ones, and more as it grows."""

from __future__ import annotations

import hashlib


def in_share(name: bytes, share: float, salt: int) -> bool:
    """Whether what is called so belongs to a share.

    Args:
        name: Hash of a row's own key, or a request's key.
        share: In [0, 1].
        salt: Chooses others for each number.

    >>> [in_share(bytes([n]), 0.5, salt=7) for n in range(4)]
    [False, False, False, True]
    >>> in_share(b"any", 0.0, salt=7), in_share(b"any", 1.0, salt=7)
    (False, True)
    """
    if not share:
        return False
    mixed = hashlib.blake2b(name, digest_size=8, key=str(salt).encode()).digest()
    return int.from_bytes(mixed, "big") < share * 2**64
