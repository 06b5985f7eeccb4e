"""Which rows people look at, where only some are: how likely each was to be asked for its label.

A row that is flagged is asked for, one that is not by chance alone. The chance is drawn from the
request's own key, so that whoever reads the log draws the same.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.core.decision import Numbers, decide_classes

ReviewRule = Literal["all", "flagged", "capacity", "queue"]
NEWEST_ROWS = 1000
"""Answers among which the most suspicious are found."""
WORD = 8
EXPLORED = struct.Struct("<d")


@dataclass(frozen=True)
class Review:
    """Which rows of one request are looked at."""

    explored: float
    """Chance that one of the other rows is asked for as well."""
    certain: NDArray[np.bool_]
    """Whether each row is asked for in any case, ``(n,)``."""

    @property
    def chances(self) -> NDArray[np.float64]:
        """How likely each row's label was to be asked for, ``(n,)``."""
        return np.where(self.certain, 1.0, self.explored)

    def asked(self, request: bytes) -> NDArray[np.bool_]:
        """Whether each row's label is asked for, ``(n,)``.

        Args:
            request: The request's key.
        """
        return self.certain | (draws(request, len(self.certain)) < self.explored)

    def pack(self) -> bytes:
        """As the log keeps it: 8 bytes, and a bit a row."""
        return EXPLORED.pack(self.explored) + np.packbits(self.certain).tobytes()

    @classmethod
    def unpack(cls, kept: bytes, rows: int) -> Review:
        """What `pack` gave for so many rows."""
        bits = np.frombuffer(kept, dtype=np.uint8, offset=EXPLORED.size)
        return cls(EXPLORED.unpack_from(kept)[0], np.unpackbits(bits, count=rows).astype(bool))


class Reviewer:
    """Decides which rows are looked at.

    Args:
        rule: ``flagged``: rows that are decided to be of another class than the first;
            ``capacity``: a share of the rows, the most suspicious of the newest.
        share: That share.
        explored: Chance of each other row.
        usual: Answers to begin with, ``(m,)`` or ``(m, classes)``.
    """

    def __init__(
        self, rule: ReviewRule, share: float, explored: float, usual: NDArray[np.float32]
    ) -> None:
        self._rule = rule
        self._share = share
        self._explored = explored
        self._newest = deque(_suspicion(usual).tolist(), maxlen=NEWEST_ROWS)

    def review(self, answers: NDArray[np.float32], threshold: float) -> Review | None:
        """Which of these rows are looked at; None where all are.

        Args:
            answers: Probabilities, ``(n,)`` of two classes, ``(n, classes)`` of more.
            threshold: The decision threshold in force.
        """
        if self._rule in ("all", "queue"):
            return None
        if self._rule == "flagged":
            return Review(self._explored, decide_classes(answers, threshold) > 0)
        found = _suspicion(answers)
        known = np.asarray(self._newest or found)
        cut = np.quantile(known, 1 - self._share, method="higher")
        self._newest.extend(found.tolist())
        return Review(self._explored, found > cut)


@lru_cache(maxsize=64)
def draws(request: bytes, rows: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each row of a request, ``(rows,)``, the same wherever it is drawn.

    >>> a, b = draws(b"one", 1000), draws(b"two", 1000)
    >>> bool((a == draws(b"one", 2000)[:1000]).all()), round(float(abs(a - b).mean()), 1)
    (True, 0.3)
    """
    words = np.frombuffer(hashlib.shake_128(request).digest(WORD * rows), dtype="<u8")
    drawn = (words >> np.uint64(11)) * 2.0**-53
    drawn.flags.writeable = False
    return np.asarray(drawn)


def _suspicion(answers: Numbers) -> NDArray[np.float32]:
    """Probability that a row is not of the first class, ``(n,)``."""
    said = np.asarray(answers)
    return said if said.ndim == 1 else 1 - said[:, 0]
