"""The right to be forgotten: one row leaves the store, and nothing that was trained on it serves.

The logs lose the row, the runner loses its checkpoint and its lease, and every snapshot that may
have seen the row is dropped. All of that is one transaction, so that it holds whatever is running:
a runner whose step is under way cannot write it any more. The next one to lead builds its state
anew from the logs as they are now (`runner.erasure`).
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from bento_selfheal.core.going_back import Turn, previous_snapshot
from bento_selfheal.core.records import Event, Phase, Promotion, PromotionKind, Snapshot
from bento_selfheal.errors import StoreError
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.audit.audit import append_audit
from bento_selfheal.store.connections import Part, WriteLock
from bento_selfheal.store.erasure.rows import LoggedRow, find, key_of, remove, requests_with
from bento_selfheal.store.keys import Place
from bento_selfheal.store.logs import newest_place
from bento_selfheal.store.promotions import append_promotions, kept_snapshots, newest_turns
from bento_selfheal.store.schema import put_meta

log = logging.getLogger(__name__)

REBUILD = "rebuild"
"""The fact that says up to which places of the logs the runner's state is built anew, and which
commands it had followed."""
ERASED = "erased"
"""The fact that says when the newest erasure was, in seconds since the epoch."""
SERVED = "what served may have been trained on a row that was erased"
EMPTY_SECONDS = 5.0
RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class Erasure:
    """What an erasure changed."""

    promotion: Promotion | None
    """What serves from now on; None where it had not seen the row."""
    dropped: list[Snapshot]
    """Snapshots that may have seen it, which may never serve again."""


class Erasures(Part):
    """Erases rows."""

    def erase(
        self, *, key: bytes | None = None, place: Place | None = None, by: str
    ) -> Erasure | None:
        """Erase a row, its labels and whatever may have been trained on it.

        Args:
            key: Hash of its own key.
            place: Or the request and the number of a prediction of it.
            by: Who asks for it.

        Returns:
            None where nothing of such a row is kept: nothing was changed.

        Raises:
            StoreError: The store is out of reach; nothing was changed.
        """
        with self._db.read() as c:  # the long look at all keys holds nobody up
            key = key if key is not None or place is None else key_of(c, place)
            end = c.execute(newest_place(t.predictions)).scalar_one()
            asked = requests_with(c, key) if key is not None else []
        with self._db.write(WriteLock.LOGS, WriteLock.RUNNER) as c:
            if key is not None:
                asked += requests_with(c, key, end)
            row = find(c, key, place, asked)
            if not self._is_kept(c, row):
                return None
            now = time.time()
            remove(c, row)
            dropped = _drop_snapshots(c, row)
            promotion = _serve_another(c, dropped, by, now)
            c.execute(insert(t.events), [codec.event_row(Event("erased", {"by": by}, now))])
            append_audit(c, "erase", by, {})  # that it was done, and never what
            _begin_anew(c, now)
        self.empty_write_ahead_log()
        return Erasure(promotion, dropped)

    def empty_write_ahead_log(self) -> bool:
        """Write SQLite's log into its file and empty it: it holds what was overwritten there.

        Returns:
            False where a reader was in the way all the time; the next erasure or restart does it.
        """
        if self._db.shared:
            return True
        deadline = time.monotonic() + EMPTY_SECONDS
        while True:
            if self._checkpoint_all():
                return True
            if time.monotonic() > deadline:
                log.warning("the write-ahead log is in use, and could not be emptied yet")
                return False
            time.sleep(RETRY_SECONDS)

    def _checkpoint_all(self) -> bool:
        with self._db.engine.connect() as c:
            raw: Any = c.connection.driver_connection
            try:  # outside of any transaction, which SQLAlchemy would begin
                busy, _, _ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError:
                return False
        return not busy

    @staticmethod
    def _is_kept(c: Connection, row: LoggedRow) -> bool:
        """Whether the logs or the runner's checkpoint know a row."""
        if row.first_prediction is not None or row.first_label is not None:
            return True
        state = c.execute(select(t.runner.c.state)).scalar() or b""
        return any(name in state or name.hex().encode() in state for name in row.names)


def _drop_snapshots(c: Connection, row: LoggedRow) -> list[Snapshot]:
    """Drop every snapshot that may have seen a row."""
    dropped = [s for s in kept_snapshots(c) if _may_have_seen(s, row)]
    s, a = t.snapshots.c, t.adapters.c
    c.execute(
        update(t.snapshots).where(s.version.in_([d.version for d in dropped])).values(kept=False)
    )
    kept = select(s.sha256).where(s.kept)
    gone = [d.sha256 for d in dropped]
    c.execute(delete(t.adapters).where(a.sha256.in_(gone), a.sha256.not_in(kept)))
    return dropped


def _may_have_seen(snapshot: Snapshot, row: LoggedRow) -> bool:
    """Whether a snapshot may depend on a row; any may where the logs do not say when it came."""
    if snapshot.phase is Phase.CLEAN:
        return False
    if row.first_prediction is None and row.first_label is None:
        return True
    pairs = (
        (snapshot.seen_predictions, row.first_prediction),
        (snapshot.seen_labels, row.first_label),
    )
    return any(came is not None and (seen is None or seen >= came) for seen, came in pairs)


def _serve_another(
    c: Connection, dropped: Sequence[Snapshot], by: str, now: float
) -> Promotion | None:
    """Go back to the newest snapshot that never saw the row, where what serves may have."""
    turns = newest_turns(c)
    if not _serving(turns) & {s.version for s in dropped}:
        return None
    target = previous_snapshot(turns, kept_snapshots(c))
    if target is None:
        raise StoreError("no snapshot is left that never saw the row: deploy the package again")
    s, before = t.snapshots.c, turns[-1][1]
    point = c.execute(select(s.operating_point).where(s.version == target.version)).scalar()
    promotion = Promotion(
        PromotionKind.ROLLBACK, target.version, target.tag, target.sha256, SERVED, now, by=by,
        operating_point=codec.point(point),
    )  # fmt: skip
    detail = {"version": target.version, "from": before, "reason": SERVED, "by": by}
    [written] = append_promotions(c, [promotion])
    c.execute(insert(t.events), [codec.event_row(Event("rollback", detail, now))])
    return written


def _serving(turns: Sequence[Turn]) -> set[int]:
    """The versions that answer requests: what serves, and the canary before it."""
    newest = turns[-1:]
    for_all = [turn for turn in turns if turn[0] is not PromotionKind.CANARY][-1:]
    return {version for _, version in (*newest, *for_all)}


def _begin_anew(c: Connection, now: float) -> None:
    """Void the runner's checkpoint and lease: whoever leads next builds its state from the logs."""
    predictions, labels, commands = (
        c.execute(newest_place(log)).scalar_one() for log in (t.predictions, t.feedback, t.commands)
    )
    r = t.runner.c
    shown = c.execute(select(r.status)).scalar() or {}
    followed = shown.get("cursors", {}).get("commands", commands)
    upto = {"predictions": predictions, "labels": labels, "commands": followed}
    put_meta(c, REBUILD, json.dumps(upto))
    put_meta(c, ERASED, repr(now))
    fenced = {"state": None, "owner": "", "until": 0.0, "token": r.token + 1}
    # The newest error of a row that was set aside may tell its values.
    status = {**shown, "rebuilding": True, "rows_trouble": "", "trouble": ""}
    c.execute(update(t.runner).values(**fenced, status=status))
