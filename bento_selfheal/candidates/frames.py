"""What a predict worker and a candidate's process say to each other over a local socket."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

HEAD = struct.Struct("<B12sII")
MOST_NUMBERS = 1 << 26


class Kind(IntEnum):
    """What a frame is."""

    COPY = 1  # rows to answer in shadow; nobody waits
    ASK = 2  # rows to answer now
    SAID = 3  # the probabilities of an ask
    FAILED = 4  # the candidate cannot answer an ask


@dataclass(frozen=True)
class Frame:
    """One message."""

    kind: Kind
    request: bytes
    """Key of the request, 12 bytes."""
    numbers: NDArray[np.float32]
    """Rows ``(n, features)``, or probabilities ``(n,)`` or ``(n, classes)``; empty of a failure."""

    def pack(self) -> bytes:
        """As bytes: a head, and the numbers as little-endian float32."""
        rows = len(self.numbers)
        columns = self.numbers.shape[1] if self.numbers.ndim == 2 else 0
        head = HEAD.pack(self.kind, self.request, rows, columns)
        return head + np.ascontiguousarray(self.numbers, dtype="<f4").tobytes()


def body_bytes(head: bytes) -> int:
    """How many bytes follow a head.

    Raises:
        ValueError: The frame would be absurdly large.
    """
    rows, columns = map(int, HEAD.unpack(head)[2:])
    if rows * max(columns, 1) > MOST_NUMBERS:
        raise ValueError(f"a frame of {rows} rows and {columns} columns")
    return 4 * rows * max(columns, 1)


def unpack(head: bytes, body: bytes) -> Frame:
    """The frame of a head and its body."""
    kind, request, rows, columns = HEAD.unpack(head)
    flat = np.frombuffer(body, dtype="<f4").astype(np.float32)
    return Frame(Kind(kind), request, flat.reshape(rows, columns) if columns else flat)
