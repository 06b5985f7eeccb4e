"""Entries of the audit, each of which carries a hash over itself and the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

OPERATE, HOST, FILE, RUNNER = "operate", "host", "file", "runner"
"""Roles: a token of the HTTP API, a command on the host, an edit of a file, the service itself."""


class Head(NamedTuple):
    """An end of the chain: an entry's place and its hash."""

    seq: int
    hash: str

    def __str__(self) -> str:
        """As people note it."""
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """What `__str__` wrote.

        Raises:
            ValueError: It is not of that form.
        """
        seq, _, found = text.strip().partition(":")
        if not seq.isdecimal() or len(found) != len(NOTHING.hash):
            raise ValueError(f"{text!r} is not SEQ:HASH")
        return cls(int(seq), found)


NOTHING = Head(0, "0" * 64)
"""What stands before the first entry."""


@dataclass(frozen=True)
class AuditEntry:
    """One thing that somebody did, or the service did in somebody's name."""

    seq: int
    time: float
    """Seconds since the epoch."""
    act: str
    """``heal``, ``rollback``, ``thresholds_changed``, ``feed``, ``webhook`` and so on."""
    by: str
    """Name of the token, of the user of the host, or ``runner``."""
    role: str
    """One of the roles above."""
    detail: str
    """A JSON object; never a row, a key or a secret."""
    hash: str = ""

    def sealed(self, before: Head) -> Head:
        """The end of the chain that this entry makes, behind the one before it."""
        own = [self.seq, self.time, self.act, self.by, self.role, self.detail]
        text = json.dumps([before.hash, *own], separators=(",", ":"))
        return Head(self.seq, hashlib.sha256(text.encode()).hexdigest())

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; a detail that was made none by hand as its text."""
        try:
            detail = json.loads(self.detail)
        except ValueError:
            detail = self.detail
        return {**vars(self), "detail": detail}


@dataclass(frozen=True)
class Verdict:
    """What a look at the whole chain found."""

    entries: int
    head: Head
    """The end of the chain, to be noted elsewhere."""
    broken: int = 0
    """The first entry that is not as it was written, where the chain is not whole."""
    why: str = ""
    """Why the chain is not whole; empty where it is."""

    @property
    def whole(self) -> bool:
        """Whether every entry is as it was written, and none is missing."""
        return not self.why


def verify(
    entries: Iterable[AuditEntry], begin: Head, head: Head, noted: Head | None = None
) -> Verdict:
    """Look for the first entry that was changed, removed or put in.

    Args:
        entries: The chain, oldest first.
        begin: What stands before the oldest one.
        head: Where the store says that it ends.
        noted: An end that somebody noted earlier; the chain must still have it.
    """
    count, at = 0, begin
    if noted is not None and 0 < noted.seq <= begin.seq and noted != begin:
        why = f"entry {noted.seq} was noted and is kept no more; note a newer head in time"
        return Verdict(count, head, noted.seq, why)
    for entry in entries:
        if entry.seq <= at.seq:
            return Verdict(count, head, entry.seq, "the entry was put in")
        if entry.seq != at.seq + 1:
            return Verdict(count, head, at.seq + 1, "the entry is missing")
        at = entry.sealed(at)
        if entry.hash != at.hash:
            return Verdict(count, head, entry.seq, "the entry or one before it was changed")
        if noted is not None and noted.seq == entry.seq and noted.hash != entry.hash:
            return Verdict(count, head, entry.seq, "its hash was another when it was noted")
        count += 1
    if at != head:
        missing = "the entry is missing" if at.seq < head.seq else "the end of the chain is another"
        return Verdict(count, head, min(at.seq + 1, head.seq), missing)
    if noted is not None and noted.seq > head.seq:
        return Verdict(count, head, head.seq + 1, f"entry {noted.seq} was noted and is missing")
    return Verdict(count, head)
