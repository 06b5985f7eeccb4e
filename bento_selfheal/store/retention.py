"""What retention deletes: the oldest rows of each table, a few at a time.

Every deletion that takes a ``limit`` is one short transaction; its caller repeats it until it
returns 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Table,
    and_,
    delete,
    func,
    not_,
    or_,
    select,
)

from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Part, WriteLock
from bento_selfheal.store.keys import drop_keys
from bento_selfheal.store.logs import logged_bytes, oldest_predictions
from bento_selfheal.store.promotions import newest_of_kept
from bento_selfheal.store.webhooks.lost import count_lost

KEY_BYTES = 320_000
"""Keys of one step of retention: each lies elsewhere in their index, and labels wait meanwhile."""


@dataclass(frozen=True)
class Waiting:
    """Requests that stay whatever their age, until they have matured or are too much."""

    place: int
    """Those after it in the log wait."""
    bytes_kept: int
    """Bytes of features and answers that they may take."""


class Retirement(Part):
    """Deletes what is too old or too much."""

    def logged(self) -> tuple[int, float | None]:
        """Size of the prediction log.

        Returns:
            Bytes of features and answers, and the time of the oldest request in seconds since the
            epoch; None while the log is empty.
        """
        with self._db.read() as c:
            oldest = oldest_predictions(c, 1)
            if not oldest:
                return 0, None
            before = oldest[0].upto - oldest[0].size
            return logged_bytes(c) - before, oldest[0].time

    def retire_predictions(
        self, before: float, bytes_kept: int, limit: int, waiting: Waiting | None = None
    ) -> int:
        """Delete the oldest requests of the log: those that are too old or too much.

        Args:
            before: Seconds since the epoch.
            bytes_kept: Bytes of features and answers that may stay.
            limit: Most requests to delete.
            waiting: Those with a bound of their own.

        Returns:
            How many requests were deleted.
        """
        with self._db.write(WriteLock.LOGS, lasting=False) as c:
            upto = logged_bytes(c)

            oldest = oldest_predictions(c, limit)
            in_hand = accumulate(r.key_bytes for r in oldest)

            def goes(r: Row[Any]) -> bool:
                enough = next(in_hand) > KEY_BYTES and r is not oldest[0]
                behind = upto - (r.upto - r.size)
                if waiting is not None and r.seq > waiting.place:
                    due = behind > waiting.bytes_kept
                else:
                    due = r.time < before or behind > bytes_kept
                # The newest request always stays: it says where the log stands.
                return bool(r.upto != upto and due and not enough)

            gone = list(takewhile(goes, oldest))
            _drop_keys(c, gone)
            return _delete_first(c, t.predictions, gone)

    def retire_feedback(self, before: float, limit: int) -> int:
        """Delete the oldest labels of the log, as `retire_predictions` does predictions."""
        f = t.feedback.c
        with self._db.write(WriteLock.LOGS, lasting=False) as c:
            c.execute(delete(t.votes).where(t.votes.c.time < before))
            oldest = c.execute(select(f.seq, f.time).order_by(f.seq).limit(limit)).all()
            return _delete_first(c, t.feedback, takewhile(lambda r: r.time < before, oldest))

    def retire_measurements(self, before: float, thin_from: float, thin_to: float) -> int:
        """Delete figures older than ``before``; of those of signals alone from ``thin_from`` to
        ``thin_to`` keep one in 60. All times are seconds since the epoch."""
        m = t.measurements.c
        between = and_(m.time >= thin_from, m.time < thin_to)
        surplus = and_(between, not_(m.scored), m.seq % 60 != 0)
        with self._db.write() as c:
            gone = c.execute(delete(t.measurements).where(or_(m.time < before, surplus)))
            return int(gone.rowcount)

    def retire_adapters(self, before: float) -> int:
        """Delete adapters older than ``before`` that belong to no kept snapshot."""
        kept = select(t.snapshots.c.sha256).where(t.snapshots.c.kept)
        with self._db.write() as c:
            a = t.adapters.c
            gone = c.execute(delete(t.adapters).where(a.time < before, a.sha256.not_in(kept)))
            return int(gone.rowcount)

    def retire_events(self, before: float, rows_kept: int, limit: int) -> int:
        """Delete the oldest events: those older than ``before``, and all but ``rows_kept``. Those
        that a webhook has yet to send are counted."""
        return self._retire(t.events, t.events.c.seq, before, rows_kept, limit, going=count_lost)

    def retire_promotions(self, before: float, rows_kept: int, limit: int) -> int:
        """Delete the oldest promotions, as `retire_events` does events.

        The newest promotion of all stays, and the newest of each snapshot that may still serve.
        """
        p = t.promotions.c
        newest = select(func.max(p.seq)).scalar_subquery()
        spared = [p.seq != newest, p.seq.not_in(newest_of_kept())]
        return self._retire(t.promotions, p.seq, before, rows_kept, limit, *spared)

    def retire_snapshots(self, before: float, rows_kept: int, limit: int) -> int:
        """Delete the rows of the oldest dropped snapshots, as `retire_events` does events.

        Those that a promotion in the log names stay, and the newest version: no later snapshot may
        get its number again.
        """
        s = t.snapshots.c
        newest = select(func.max(s.version)).scalar_subquery()
        named = select(t.promotions.c.seq).where(t.promotions.c.version == s.version).exists()
        spared = [not_(s.kept), s.version != newest, not_(named)]
        return self._retire(t.snapshots, s.version, before, rows_kept, limit, *spared)

    def _retire(
        self,
        table: Table,
        place: Column[int],
        before: float,
        rows_kept: int,
        limit: int,
        *may_go: ColumnElement[bool],
        going: Callable[[Connection, Sequence[int]], None] | None = None,
    ) -> int:
        """Delete the oldest rows that may go and are too old, or more than ``rows_kept`` back;
        ``going`` is called with their places before."""
        with self._db.write(lasting=False) as c:
            newest = int(c.execute(select(func.max(place))).scalar() or 0)
            query = select(place.label("place"), table.c.time).where(*may_go)
            oldest = c.execute(query.order_by(place).limit(limit)).all()
            surplus = newest - rows_kept
            gone = takewhile(lambda r: r.place <= surplus or r.time < before, oldest)
            places = [r.place for r in gone]
            if places and going is not None:
                going(c, places)
            return int(c.execute(delete(table).where(place.in_(places))).rowcount) if places else 0


def _drop_keys(c: Connection, gone: Sequence[Row[Any]]) -> None:
    """Delete the keys of requests that go, given with the bytes of their keys."""
    p = t.predictions.c
    if any(r.key_bytes for r in gone):
        last = gone[-1].seq
        blobs = select(p.own_keys).where(p.seq <= last, p.own_keys.is_not(None))
        drop_keys(c, [bytes(keys) for keys in c.execute(blobs).scalars()], last)


def _delete_first(c: Connection, log: Table, rows: Iterable[Any]) -> int:
    """Delete the oldest rows of a log, given with their ``seq``; returns how many."""
    last = max((r.seq for r in rows), default=0)
    return int(c.execute(delete(log).where(log.c.seq <= last)).rowcount) if last else 0
