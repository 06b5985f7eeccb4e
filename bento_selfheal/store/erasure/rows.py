"""Finds everything that both logs hold of one row, and takes it out of them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, LargeBinary, bindparam, delete, func, or_, select, text, update

from bento_selfheal.core.ids import KEY_HASH_BYTES, key_at
from bento_selfheal.core.log.erased import is_marked, mark
from bento_selfheal.store import tables as t
from bento_selfheal.store.candidates.tables import candidate_predictions
from bento_selfheal.store.keys import Place, chunks
from bento_selfheal.store.labels.retries import begin_of

HOLDS = {
    "sqlite": "instr(own_keys, :key) > 0",
    "postgresql": "position(:key in own_keys) > 0",
}
"""Whether the keys of a request hold one, by database."""
NAMING = "row_set_aside"
"""The kind of events that name a row."""

EXPLORED_BYTES = 8
"""Of a packed `scoring.review.Review`, before its bits."""


@dataclass
class LoggedRow:
    """What the logs hold of one row, which may have been asked for several times."""

    key: bytes | None
    """Hash of its own key."""
    places: set[Place] = field(default_factory=set)
    """Its requests and numbers."""
    first_prediction: int | None = None
    """Place of the oldest prediction of it that is left."""
    first_label: int | None = None
    """Place of its oldest label that is left."""

    @property
    def names(self) -> list[bytes]:
        """What else calls the row by: its key, and its requests with its numbers, 16 bytes each."""
        rows = [request + row.to_bytes(4, "big", signed=True) for request, row in self.places]
        return sorted(rows) + ([self.key] if self.key else [])


def requests_with(c: Connection, key: bytes, after: int = 0) -> list[int]:
    """Places of the requests after a place that have a row of this key; every key is looked at."""
    query = text(
        f"select seq from predictions where seq > :after and own_keys is not null "  # noqa: S608
        f"and {HOLDS[c.dialect.name]} order by seq"
    ).bindparams(bindparam("key", type_=LargeBinary))
    return list(c.execute(query, {"after": after, "key": key}).scalars())


def find(c: Connection, key: bytes | None, place: Place | None, with_key: list[int]) -> LoggedRow:
    """Everything that both logs hold of a row.

    Args:
        c: A transaction that holds the lock of both logs.
        key: Hash of its own key; without one that of its prediction counts, if it has one.
        place: Its request and number, where it is named by its prediction.
        with_key: Places of the requests that may have the key.
    """
    found = LoggedRow(key)
    if place is not None:
        found.places.add(place)
    p, f = t.predictions.c, t.feedback.c
    columns = select(p.seq, p.request, p.own_keys, p.rows, p.erased)
    asked = []
    for r in [r for part in chunks(with_key) for r in c.execute(columns.where(p.seq.in_(part)))]:
        rows = _rows_of(bytes(r.own_keys), key or b"")
        found.places |= {(bytes(r.request), row) for row in rows}
        # What is erased has a drawn key, under which its id finds it again.
        if any(_is_left(r, row) for row in rows):
            asked.append(r)
    if place is not None:
        one = c.execute(columns.where(p.request == place[0])).first()
        if one is not None and _is_left(one, place[1]):
            asked.append(one)
    if asked:
        found.first_prediction = min(r.seq for r in asked)
    if key is not None:
        bound = select(f.request, f.row).where(f.key == key, f.row >= 0)
        found.places |= {(bytes(r.request), r.row) for r in c.execute(bound)}
    found.first_label = c.execute(select(func.min(f.seq)).where(_labels(found))).scalar()
    return found


def key_of(c: Connection, place: Place) -> bytes | None:
    """The hash of the own key of a row, by its prediction or else by its label."""
    p, f = t.predictions.c, t.feedback.c
    keys = c.execute(select(p.own_keys).where(p.request == place[0])).scalar()
    if keys:
        return key_at(bytes(keys), place[1]) or None
    label = select(f.key).where(f.request == place[0], f.row == place[1], f.key.is_not(None))
    key = c.execute(label.limit(1)).scalar()
    return None if key is None else bytes(key)


def remove(c: Connection, row: LoggedRow) -> None:
    """Take a row out of both logs, with its labels, votes and inputs, and events that name it."""
    i, a, requests = t.inputs.c, t.review_rows.c, sorted({request for request, _ in row.places})
    _forget_requests(c, requests, row.key)
    for request in requests:
        numbers = [number for other, number in row.places if other == request]
        _overwrite(c, request, numbers)
        said = candidate_predictions.c.request == request
        c.execute(delete(candidate_predictions).where(said))
        c.execute(delete(t.inputs).where(i.request == request, i.row.in_(numbers)))
        c.execute(delete(t.review_rows).where(a.request == request, a.row.in_(numbers)))
    c.execute(delete(t.feedback).where(_labels(row)))
    for part in chunks(row.names):
        c.execute(delete(t.votes).where(t.votes.c.name.in_(part)))
        c.execute(delete(t.prediction_keys).where(t.prediction_keys.c.key.in_(part)))
    _remove_events(c, row)


def _forget_requests(c: Connection, requests: list[bytes], key: bytes | None) -> None:
    """Do not know requests again when they are sent once more: their notes hold a part of a key,
    also where retention has taken the requests."""
    n = t.recent_requests.c
    for part in chunks(requests):
        places = select(t.predictions.c.seq).where(t.predictions.c.request.in_(part))
        c.execute(delete(t.recent_requests).where(n.place.in_(places)))
    if key is not None:
        c.execute(delete(t.recent_requests).where(n.first_key == begin_of(key)))


def _labels(row: LoggedRow):  # type: ignore[no-untyped-def] # SQLAlchemy's own type
    """The condition for the labels of a row: by its key, and by each of its places."""
    f = t.feedback.c
    own = [(f.request == request) & (f.row == number) for request, number in sorted(row.places)]
    return or_(*own, *([f.key == row.key] if row.key is not None else []))


def _is_left(asked: Any, row: int) -> bool:
    """Whether a row of a logged request was not erased."""
    return not is_marked(bytes(asked.erased or b""), asked.rows, row)


def _rows_of(keys: bytes, key: bytes) -> list[int]:
    return [row for row in range(len(keys) // KEY_HASH_BYTES) if key_at(keys, row) == key]


def _overwrite(c: Connection, request: bytes, rows: Sequence[int]) -> None:
    """Write zeros over rows of a request, and draws over their keys; sizes and numbers stay."""
    p = t.predictions.c
    query = select(p.rows, p.features, p.probabilities, p.own_keys, p.review, p.erased)
    found = c.execute(query.where(p.request == request)).first()
    if found is None:  # retention has taken it, or the row came with its label
        return
    rows = [row for row in rows if row < found.rows]
    values = {
        "features": _zeroed(bytes(found.features), found.rows, rows),
        "probabilities": _zeroed(bytes(found.probabilities), found.rows, rows),
        "erased": mark(bytes(found.erased or b""), found.rows, rows),
    }
    if found.review:
        values["review"] = _not_flagged(bytes(found.review), rows)
    if found.own_keys:
        keys = bytearray(found.own_keys)
        for row in rows:  # not zeros: a label by id must meet no other row's key
            drawn = secrets.token_bytes(KEY_HASH_BYTES)
            keys[row * KEY_HASH_BYTES : (row + 1) * KEY_HASH_BYTES] = drawn
        values["own_keys"] = bytes(keys)
    c.execute(update(t.predictions).where(p.request == request).values(values))


def _zeroed(blob: bytes, count: int, rows: Sequence[int]) -> bytes:
    """A packed table of so many rows with zeros in some; one that does not fit is zeroed whole."""
    numbers = len(blob) - len(blob) % 2  # a blob of float16 has a byte behind it
    if numbers % count:
        return bytes(numbers) + blob[numbers:]
    size, out = numbers // count, bytearray(blob)
    for row in rows:
        out[row * size : (row + 1) * size] = bytes(size)
    return bytes(out)


def _not_flagged(review: bytes, rows: Sequence[int]) -> bytes:
    """Which rows are looked at in any case, a bit a row behind a number, without some of them."""
    out = bytearray(review)
    for row in rows:
        out[EXPLORED_BYTES + row // 8] &= ~(0x80 >> row % 8)
    return bytes(out)


def _remove_events(c: Connection, row: LoggedRow) -> None:
    """Delete the events that name a row."""
    e, key = t.events.c, row.key.hex() if row.key else ""
    places = {(request.hex(), number) for request, number in row.places}
    events = c.execute(select(e.seq, e.detail).where(e.kind == NAMING)).all()
    named = [
        r.seq for r in events
        if (key and r.detail.get("key") == key)
        or (r.detail.get("request"), r.detail.get("row")) in places
    ]  # fmt: skip
    for part in chunks(named):
        c.execute(delete(t.events).where(e.seq.in_(part)))
