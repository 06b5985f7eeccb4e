"""Rows of logged requests that were erased.

The log keeps a bit for each row, so that the other rows keep their numbers and their ids. Nothing
reads what stands in the place of an erased one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.ids import key_at
from bento_selfheal.core.records import PredictionRecord


def mark(before: bytes, rows: int, erased: Iterable[int]) -> bytes:
    """The bits of a request of so many rows, with more of them erased.

    >>> mark(b"", 3, [1]), mark(b"\\x40", 3, [0])
    (b'@', b'\\xc0')
    """
    bits = _bits(before, rows)
    bits[list(erased)] = True
    return np.packbits(bits).tobytes()


def is_marked(erased: bytes, rows: int, row: int) -> bool:
    """Whether a row of a request of so many rows was erased, by its bits."""
    return bool(erased) and bool(_bits(erased, rows)[row])


def is_erased(asked: PredictionRecord, row: int) -> bool:
    """Whether a row of a request was erased."""
    return is_marked(asked.erased, len(asked.probabilities), row)


def rows_left(asked: PredictionRecord) -> NDArray[np.bool_]:
    """Which rows of a request were not erased, ``(n,)``."""
    return ~_bits(asked.erased, len(asked.probabilities))


def without_erased(asked: PredictionRecord) -> PredictionRecord | None:
    """A request as it would have been without its erased rows; None where no row is left.

    The rows have other numbers then: it is for whoever looks at all of them together.
    """
    if not asked.erased:
        return asked
    left = rows_left(asked)
    if not left.any():
        return None
    return replace(
        asked, features=asked.features[left], probabilities=asked.probabilities[left], erased=b"",
        keys=b"".join(key_at(asked.keys, row) for row in np.flatnonzero(left).tolist()),
    )  # fmt: skip


def _bits(erased: bytes, rows: int) -> NDArray[np.bool_]:
    if not erased:
        return np.zeros(rows, dtype=bool)
    return np.unpackbits(np.frombuffer(erased, dtype=np.uint8), count=rows).astype(bool)
