"""The review queue: rows whose labels people are asked for, and who has which of them now."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.log.erased import is_erased
from bento_selfheal.core.records import WAITS, PredictionRecord
from bento_selfheal.core.review.asked_row import DAY, AskedRow, HandedOut, ShownRow
from bento_selfheal.store import tables as t
from bento_selfheal.store.keys import chunks
from bento_selfheal.store.labels.requests import RequestQueries

LEASE_SECONDS = 600.0
"""How long nobody else is given a row that somebody was given."""
MOST_WAITING = 20_000
"""Rows that wait; beyond, those that came first leave."""
DONE = 1e300
"""Until when a row that has its label is given to nobody."""


class ReviewRows(RequestQueries):
    """Rows on their way to people, each for one at a time."""

    def hand_out(self, most: int, now: float, budget: int | None = None) -> HandedOut:
        """Give somebody rows that nobody else has and that have no label.

        Whoever is given a row has it for `LEASE_SECONDS`. Without a label by then, it is given to
        somebody again; in a day's budget it counts once. A row waits for a day.

        Args:
            most: Rows to give at most.
            now: Seconds since the epoch.
            budget: Rows that may be handed out in a day of UTC.
        """
        given: list[ShownRow] = []
        while claimed := self._claim(most - len(given), now, budget):
            shown = self._unlabelled(claimed)
            given += shown.values()
            self._close([r for r in claimed if r.seq not in shown], int(now // DAY))
        return HandedOut(given, self._left(now, budget))

    def _left(self, now: float, budget: int | None) -> int | None:
        if budget is None:
            return None
        with self._db.read() as c:
            return max(budget - _handed_out(c, int(now // DAY)), 0)

    def _claim(self, most: int, now: float, budget: int | None) -> list[Any]:
        """Rows that are somebody's from now on, as they were before."""
        a, day = t.review_rows.c, int(now // DAY)
        today = a.day == day
        free = select(t.review_rows).where(a.until <= now).order_by(a.turn, a.seq)
        with self._db.write() as c:
            _clear(c, now, day)
            room = most if budget is None else min(most, max(budget - _handed_out(c, day), 0))
            found = list(c.execute(free.where(today).limit(most)))
            new = free.where(or_(a.day.is_(None), a.day != day))
            found += c.execute(new.limit(min(room, most - len(found))))
            for part in chunks([r.seq for r in found]):
                taken = update(t.review_rows).where(a.seq.in_(part))
                c.execute(taken.values(day=day, until=now + LEASE_SECONDS))
        return found

    def _unlabelled(self, claimed: Sequence[Any]) -> dict[int, ShownRow]:
        """Those that are in the log and have no label, by their places."""
        shown: dict[int, ShownRow] = {}
        for request, rows in groupby(sorted(claimed, key=_request), key=_request):
            known = self.predictions_of({request}).get(request)
            if known is not None:  # one request after the other: some are large
                shown |= self._unlabelled_of(known, list(rows))
        return {r.seq: shown[r.seq] for r in claimed if r.seq in shown}

    def _unlabelled_of(self, known: PredictionRecord, rows: list[Any]) -> dict[int, ShownRow]:
        """Those of one request."""
        shown: dict[int, ShownRow] = {}
        labelled = self._labelled(known, [r.row for r in rows])
        for r in rows:
            if r.row not in labelled and not is_erased(known, r.row):
                features, said = known.features[[r.row]], known.probabilities[[r.row]]
                shown[r.seq] = ShownRow(_asked(r), len(known.probabilities), features, said)
        return shown

    def _labelled(self, known: PredictionRecord, rows: list[int]) -> set[int]:
        """Which rows have a label that was not taken back, by their place or by their own key."""
        f = t.feedback.c
        keys = {key: row for row in rows if (key := known.key_of(row))}
        asked = select(f.seq, f.request, f.row, f.key, f.label)
        found: list[Any] = []
        with self._db.read() as c:
            for part in chunks(rows):
                found += c.execute(asked.where(f.request == known.request, f.row.in_(part)))
            for named in chunks(sorted(keys)):
                found += c.execute(asked.where(f.key.in_(named), f.row != WAITS))
        newest: dict[int, int] = {}
        for r in sorted(found, key=lambda r: int(r.seq)):
            here = bytes(r.request) == known.request
            newest[r.row if here else keys[bytes(r.key)]] = r.label
        return {row for row, label in newest.items() if label != NO_LABEL}

    def _close(self, rows: Sequence[Any], day: int) -> None:
        """Let go of rows that nobody needs to look at. Of the day's budget they take nothing,
        unless somebody was shown them on that day."""
        a = t.review_rows.c
        new = [r.seq for r in rows if r.day != day]
        if not rows:
            return
        with self._db.write() as c:
            for part in chunks([r.seq for r in rows]):
                c.execute(update(t.review_rows).where(a.seq.in_(part)).values(until=DONE))
            for part in chunks(new):
                c.execute(update(t.review_rows).where(a.seq.in_(part)).values(day=None))


def append_asked(c: Connection, rows: Sequence[AskedRow]) -> None:
    """Put rows into the queue; of too many, those that came first leave."""
    if not rows:
        return
    c.execute(insert(t.review_rows), [{**row.__dict__, "until": 0.0} for row in rows])
    a = t.review_rows.c
    newest = c.execute(select(func.max(a.seq))).scalar_one()
    c.execute(delete(t.review_rows).where(a.seq <= newest - MOST_WAITING, a.day.is_(None)))


def ask_anew(c: Connection, rows: Sequence[AskedRow]) -> None:
    """Put rows in the place of all that wait. What somebody was given stays, and is not among
    them twice."""
    a = t.review_rows.c
    c.execute(delete(t.review_rows).where(a.day.is_(None)))
    given = {(bytes(r.request), r.row) for r in c.execute(select(a.request, a.row))}
    append_asked(c, [row for row in rows if (row.request, row.row) not in given])


def close_all(c: Connection) -> None:
    """Give no row to anybody any more; those of today still count in the day's budget."""
    c.execute(update(t.review_rows).values(until=DONE))


def _clear(c: Connection, now: float, day: int) -> None:
    """Delete rows that have waited for too long or have their label, but for those of today."""
    a = t.review_rows.c
    old = or_(a.time < now - DAY, a.until == DONE)
    c.execute(delete(t.review_rows).where(old, or_(a.day.is_(None), a.day < day)))


def _handed_out(c: Connection, day: int) -> int:
    """Rows that were handed out on a day."""
    count = select(func.count()).where(t.review_rows.c.day == day)
    return int(c.execute(count).scalar_one())


def _request(r: Any) -> bytes:
    return bytes(r.request)


def _asked(r: Any) -> AskedRow:
    return AskedRow(bytes(r.request), r.row, r.chance, r.turn, r.why, r.time)
