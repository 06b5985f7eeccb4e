"""The review queue: rows whose labels people are asked for, and who has which of them now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import PredictionRecord
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
            self._close([place for place in claimed if place not in shown])
        return HandedOut(given, self._left(now, budget))

    def _left(self, now: float, budget: int | None) -> int | None:
        if budget is None:
            return None
        with self._db.read() as c:
            return max(budget - _handed_out(c, int(now // DAY)), 0)

    def _claim(self, most: int, now: float, budget: int | None) -> dict[int, AskedRow]:
        """Rows that are somebody's from now on, by their places."""
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
        return {r.seq: _asked(r) for r in found}

    def _unlabelled(self, claimed: dict[int, AskedRow]) -> dict[int, ShownRow]:
        """Those that are in the log and have no label, request by request: some are large."""
        shown: dict[int, ShownRow] = {}
        for place, asked in claimed.items():
            known = self.predictions_of({asked.request}).get(asked.request)
            if known is not None and not self._has_label(known, asked.row):
                one = slice(asked.row, asked.row + 1)
                said = known.probabilities[one]
                shown[place] = ShownRow(asked, len(known.probabilities), known.features[one], said)
        return shown

    def _has_label(self, known: PredictionRecord, row: int) -> bool:
        """Whether a row has a label that was not taken back, by its place or by its own key."""
        key = known.key_of(row)
        own = [
            label for label in self.labels_of([known])[known.request]
            if (label.request, label.row) == (known.request, row) or (key and label.key == key)
        ]  # fmt: skip
        return bool(own) and max(own, key=lambda label: label.seq).label != NO_LABEL

    def _close(self, places: Sequence[int]) -> None:
        """Let go of rows that nobody needs to look at; they were shown to nobody."""
        if places:
            with self._db.write() as c:
                for part in chunks(list(places)):
                    gone = t.review_rows.c.seq.in_(part)
                    c.execute(update(t.review_rows).where(gone).values(day=None, until=DONE))


def append_asked(c: Connection, rows: Sequence[AskedRow]) -> None:
    """Put rows into the queue; of too many, those that came first leave."""
    if not rows:
        return
    c.execute(insert(t.review_rows), [{**row.__dict__, "until": 0.0} for row in rows])
    a = t.review_rows.c
    newest = c.execute(select(func.max(a.seq))).scalar_one()
    c.execute(delete(t.review_rows).where(a.seq <= newest - MOST_WAITING, a.day.is_(None)))


def _clear(c: Connection, now: float, day: int) -> None:
    """Delete rows that have waited for too long or have their label, but for those of today."""
    a = t.review_rows.c
    old = or_(a.time < now - DAY, a.until == DONE)
    c.execute(delete(t.review_rows).where(old, or_(a.day.is_(None), a.day < day)))


def _handed_out(c: Connection, day: int) -> int:
    """Rows that were handed out on a day."""
    count = select(func.count()).where(t.review_rows.c.day == day)
    return int(c.execute(count).scalar_one())


def _asked(r: Any) -> AskedRow:
    return AskedRow(bytes(r.request), r.row, r.chance, r.turn, r.why, r.time)
