"""Requests that are sent again, as after a time-out: answered again, and counted once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

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
KNOWN = {
    "sqlite": text(
        """select n.first_key, n.place from json_each(:keys) j cross join recent_requests n
        where n.period = :period and n.first_key = j.value"""
    ),
    "postgresql": text(
        """select n.first_key, n.place from recent_requests n
        where n.period = :period and n.first_key in
        (select cast(j.value as bigint) from json_array_elements_text(cast(:keys as json)) j)"""
    ),
}
NOTED = "on conflict (period, first_key) do update set place = excluded.place"
NOTE = {
    "sqlite": text(
        f"""insert into recent_requests (period, first_key, place)
        select :period, cast(j.key as integer), j.value from json_each(:places) j
        where true {NOTED}"""  # noqa: S608 - of our own words
    ),
    "postgresql": text(
        f"""insert into recent_requests (period, first_key, place)
        select :period, cast(j.key as bigint), cast(j.value as bigint)
        from json_each_text(cast(:places as json)) j where true {NOTED}"""  # noqa: S608 - of our own words
    ),
}
"""One statement for all requests of a period: for each value of a long statement SQLAlchemy takes
longer than the database."""
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
    firsts = [_first_key(r) if r.keys else None for r in records]
    periods = {_period(r) for r in records if r.keys}
    if not periods:
        return [False] * len(records)
    known = _recent(c, periods, sorted({first for first in firsts if first is not None}))
    retried: list[bool] = []
    for r, first in zip(records, firsts, strict=True):
        retried.append(first is not None and _is_same(r, known.get(first)))
        if first is not None and not retried[-1]:
            known[first] = r
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
    notes: dict[int, dict[int, int]] = {}
    for place, (r, again) in enumerate(zip(records, retried, strict=True), start=first):
        if r.keys and not again:
            notes.setdefault(_period(r), {})[_first_key(r)] = place
    for period, places in notes.items():
        c.execute(NOTE[c.dialect.name], {"period": period, "places": json.dumps(places)})
    if notes:
        c.execute(FORGET, {"period": max(notes) - 1, "most": AT_ONCE})


def _recent(c: Connection, periods: Iterable[int], keys: list[int]) -> dict[int, PredictionRecord]:
    """The newest requests whose first keys are some keys, of some periods and those before, by
    their first keys."""
    p, given = t.predictions.c, json.dumps(keys)
    places: dict[int, int] = {}
    for period in sorted({period - back for period in periods for back in (0, 1)}):
        found = c.execute(KNOWN[c.dialect.name], {"period": period, "keys": given})
        places.update((r.first_key, r.place) for r in found)
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
