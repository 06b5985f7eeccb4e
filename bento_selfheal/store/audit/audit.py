"""The audit: a chain of entries that all processes append to, one at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from bento_selfheal.core.audit.entry import NOTHING, OPERATE, AuditEntry, Head, Verdict, verify
from bento_selfheal.errors import StoreError, storable
from bento_selfheal.store.audit.tables import audit
from bento_selfheal.store.connections import Part
from bento_selfheal.store.schema import get_meta, put_meta

HEAD, BEGIN = "audit_head", "audit_begin"
"""Facts: where the chain ends, and which entry retention took last."""
PAGE = 1000


class Audits(Part):
    """The entries of the audit."""

    def add_audit(self, act: str, by: str, role: str, detail: Mapping[str, Any]) -> None:
        """Write that somebody did something that changes nothing else in the store."""
        with self._db.write() as c:
            append_audit(c, act, by, detail, role)

    def audit(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[AuditEntry]:
        """One page of the audit, oldest first; see `Part.page` for which one."""
        return [
            AuditEntry(**r._mapping) for r in self.page(audit, audit.c.seq, after, before, limit)
        ]

    def verify_audit(self, noted: Head | None = None) -> Verdict:
        """Look at the whole chain, in one consistent view of it.

        Args:
            noted: An end of the chain that was noted elsewhere.

        Raises:
            StoreError: Where the chain begins or ends was overwritten by hand.
        """
        with self._db.read() as c:
            begin, head = _fact(c, BEGIN), _fact(c, HEAD)
            return verify(_each(c), begin, head, noted)

    def retire_audit(self, before: float, rows_kept: int, limit: int) -> int:
        """Delete the oldest entries, as `retire_events` does; the chain begins behind them."""
        a = audit.c
        with self._db.write() as c:
            surplus = _fact(c, HEAD).seq - rows_kept
            oldest = c.execute(select(a.seq, a.hash, a.time).order_by(a.seq).limit(limit)).all()
            gone = list(takewhile(lambda r: r.seq <= surplus or r.time < before, oldest))
            if gone:
                c.execute(delete(audit).where(a.seq <= gone[-1].seq))
                put_meta(c, BEGIN, str(Head(gone[-1].seq, gone[-1].hash)))
            return len(gone)


def append_audit(
    c: Connection, act: str, by: str, detail: Mapping[str, Any], role: str = OPERATE
) -> None:
    """Append an entry in the transaction of what it is about, so that there is neither without the
    other.

    Args:
        c: A write transaction under `WriteLock.RUNNER`: the chain has one writer at a time.
        act: What was done.
        by: Who did it.
        detail: JSON values; never a row, a key or a secret.
        role: In which role.
    """
    # The fact, not the newest row: where the end was cut off, the gap must stay to be seen.
    before = _fact(c, HEAD)
    text = json.dumps(storable(dict(detail)), sort_keys=True)
    entry = AuditEntry(before.seq + 1, time.time(), act, str(storable(by)), role, text)
    head = entry.sealed(before)
    c.execute(insert(audit).values({**vars(entry), "hash": head.hash}))
    put_meta(c, HEAD, str(head))


def _fact(c: Connection, name: str) -> Head:
    found = get_meta(c, name)
    try:
        return NOTHING if found is None else Head.parse(found)
    except ValueError as error:
        raise StoreError(f"{name}: {error}: the audit was changed by hand") from error


def _each(c: Connection) -> Iterator[AuditEntry]:
    """Every entry, a page at a time; also those that stand where none can."""
    query = select(audit).order_by(audit.c.seq).limit(PAGE)
    rows = c.execute(query).all()
    while rows:
        yield from (AuditEntry(**r._mapping) for r in rows)
        rows = c.execute(query.where(audit.c.seq > rows[-1].seq)).all()
