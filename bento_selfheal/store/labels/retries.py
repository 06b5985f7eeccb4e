"""Requests that are sent again, as after a time-out: answered again, and counted once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, select, text

from bento_selfheal.core.records import PredictionRecord
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t

SECONDS = 600.0
"""So long after a request one with the same keys and rows is the same one."""
TOLERANCE = 1e-3
"""A hidden vector differs a little with the rows that it is computed beside."""
AT_ONCE = 2000
"""Entries that one commit forgets."""
NOTE = text(
    """insert into recent_requests (period, first_key, place) values (:period, :first_key, :place)
    on conflict (period, first_key) do update set place = excluded.place"""
)
FORGET = text(
    """delete from recent_requests where (period, first_key) in
    (select period, first_key from recent_requests where period < :period limit :most)"""
)


def find_retried(c: Connection, records: Sequence[PredictionRecord]) -> list[bool]:
    """Whether each of some requests was sent before, a moment ago.

    The keys and the rows decide: a key that is asked again with another row is a new prediction.

    Args:
        c: The transaction that writes them.
        records: They.
    """
    with_keys = [r for r in records if r.keys]
    if not with_keys:
        return [False] * len(records)
    known, retried = _recent(c, with_keys), []
    for r in records:
        retried.append(bool(r.keys) and _is_same(r, known.get(_first_key(r))))
        if r.keys and not retried[-1]:
            known[_first_key(r)] = r
    return retried


def note_requests(
    c: Connection, records: Sequence[PredictionRecord], retried: Sequence[bool], last: int
) -> None:
    """Remember requests for as long as they may be sent again. What was sent again is not: a row
    that is asked every minute would be the same request for days.

    Args:
        c: The transaction that has written them.
        records: They; their places follow each other.
        retried: Whether each was sent before.
        last: The place of the last of them.
    """
    first = last - len(records) + 1
    notes = [
        {"period": _period(r), "first_key": _first_key(r), "place": place}
        for place, (r, again) in enumerate(zip(records, retried, strict=True), start=first)
        if r.keys and not again
    ]
    if not notes:
        return
    c.execute(NOTE, notes)
    c.execute(FORGET, {"period": notes[-1]["period"] - 1, "most": AT_ONCE})


def _recent(c: Connection, records: Sequence[PredictionRecord]) -> dict[int, PredictionRecord]:
    """The newest requests whose first keys are those of others, by these."""
    n, p = t.recent_requests.c, t.predictions.c
    periods = {_period(r) - back for r in records for back in (0, 1)}
    query = select(n.first_key, n.place).where(
        n.period.in_(sorted(periods)), n.first_key.in_(sorted(set(map(_first_key, records))))
    )
    places = {r.first_key: r.place for r in c.execute(query.order_by(n.period))}
    if not places:
        return {}
    found = c.execute(select(t.predictions).where(p.seq.in_(sorted(places.values()))))
    logged = {r.seq: codec.prediction(r) for r in found}
    return {key: logged[place] for key, place in places.items() if place in logged}


def _is_same(r: PredictionRecord, earlier: PredictionRecord | None) -> bool:
    return (
        earlier is not None
        and r.keys == earlier.keys
        and abs(r.time - earlier.time) <= SECONDS
        and r.features.shape == earlier.features.shape
        and np.allclose(r.features, earlier.features, TOLERANCE, TOLERANCE, equal_nan=True)
    )


def begin_of(key: bytes) -> int:
    """What a note holds of the first key of its request."""
    return int.from_bytes(key[:8], "big", signed=True)


def _first_key(r: PredictionRecord) -> int:
    return begin_of(r.keys)


def _period(r: PredictionRecord) -> int:
    return int(r.time // SECONDS)
