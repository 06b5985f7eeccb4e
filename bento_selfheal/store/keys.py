"""Own keys of rows: each points at its newest prediction, and binds its label to one row.

A key is bound under the lock of both logs, so at a place of their common order: with its label
where the log has a prediction of it, else with the first prediction that is logged after the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    update,
)

from bento_selfheal.core.ids import KEY_HASH_BYTES, key_at
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.store import tables as t

PER_STATEMENT = 500
"""Values that one statement names."""
ROWS = 2**24
"""Rows that a place has room for, as ids have."""
OF_RUN = f"""with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < :count),
new(key, place) as (
    select substr(:keys, {KEY_HASH_BYTES} * i + 1, {KEY_HASH_BYTES}),
        (:first + i / :rows) * {ROWS} + i % :rows
    from n
)
"""  # noqa: S608 - of our own numbers
INDEX = text(
    f"""{OF_RUN} insert into prediction_keys (key, place)
    select key, max(place) from new group by key
    on conflict (key) do update set place = excluded.place"""  # noqa: S608 - all of it is above
)
"""In the database: with a statement for each key, it and the interpreter would wait for each other
all the time."""
WAITING = text(
    f"""{OF_RUN} select f.key as key, min(new.place) as place from new cross join feedback f
    where f."row" = -1 and f.key = new.key group by f.key"""  # noqa: S608
)
"""The new keys first (SQLite keeps to the order of a cross join): labels may wait in vain."""
WAIT = select(t.feedback.c.key).where(t.feedback.c.row == literal_column(str(WAITS))).limit(1)
"""Labels that wait; as it is written, the index of these holds the answer."""
ANY = select(t.prediction_keys.c.place).limit(1)

T = TypeVar("T")


@dataclass(frozen=True)
class Bound:
    """A row that a key is bound to."""

    request: bytes
    row: int


def index_keys(c: Connection, records: Sequence[PredictionRecord], last: int) -> None:
    """Point the keys of new requests at them, and bind the labels that wait for one.

    Args:
        c: The transaction that has written the requests.
        records: They; their places follow each other.
        last: The place of the last of them.
    """
    runs = list(_runs(records, last - len(records) + 1))
    for run in runs:
        c.execute(INDEX, run)
    if not runs or c.execute(WAIT).first() is None:
        return
    first: dict[bytes, int] = {}
    for run in runs:
        for r in c.execute(WAITING, run):
            first.setdefault(bytes(r.key), r.place)
    for key, row in _rows_at(c, first).items():
        _bind(c, key, row)


def _runs(records: Sequence[PredictionRecord], place: int) -> Iterator[dict[str, Any]]:
    """Requests with keys that follow each other and have as many rows, for one statement."""
    for size, same in groupby(records, key=lambda r: len(r.keys) // KEY_HASH_BYTES):
        run = list(same)
        if size:
            keys = b"".join(r.keys for r in run)
            yield {"keys": keys, "count": size * len(run), "rows": size, "first": place}
        place += len(run)


def bound(c: Connection, records: Sequence[FeedbackRecord]) -> list[FeedbackRecord]:
    """Labels with the row that each belongs to, and its key where it has one.

    A label by id takes the key of its row, so that one by key is known to be the same.
    """
    records = _with_keys_of_rows(c, records)
    keys = {r.key for r in records if r.key is not None}
    labelled = _labelled_rows(c, keys)
    newest = _newest_rows(c, keys - labelled.keys())
    return [_on_its_row(r, labelled, newest) for r in records]


def _newest_rows(c: Connection, keys: set[bytes]) -> dict[bytes, Bound]:
    """The row of the newest prediction of each key; keys without one are left out."""
    k, p = t.prediction_keys.c, t.predictions.c
    both = t.prediction_keys.join(t.predictions, p.seq == k.place // ROWS)
    rows: dict[bytes, Bound] = {}
    for part in chunks(sorted(keys)):
        query = select(k.key, k.place, p.request).select_from(both).where(k.key.in_(part))
        rows.update(
            (bytes(r.key), Bound(bytes(r.request), r.place % ROWS)) for r in c.execute(query)
        )
    return rows


def drop_keys(c: Connection, keys: Sequence[bytes], last: int) -> None:
    """Forget the hashes of requests that are deleted, up to a place, unless asked again since."""
    k = t.prediction_keys.c
    gone = [
        {"gone": key_at(blob, row)} for blob in keys for row in range(len(blob) // KEY_HASH_BYTES)
    ]
    if gone:
        old = k.place < (last + 1) * ROWS
        c.execute(delete(t.prediction_keys).where(k.key == bindparam("gone"), old), gone)


def chunks(items: list[T]) -> Iterator[list[T]]:
    """Parts that one statement may name."""
    for start in range(0, len(items), PER_STATEMENT):
        yield items[start : start + PER_STATEMENT]


def _on_its_row(
    label: FeedbackRecord, labelled: dict[bytes, Bound], newest: dict[bytes, Bound]
) -> FeedbackRecord:
    """A label on the row that its key is bound to, if it is; one with features brings its row."""
    if label.key is None or label.features is not None:
        return label
    row = labelled.get(label.key)
    if row is None and label.row == WAITS:
        row = newest.get(label.key)
    return label if row is None else replace(label, request=row.request, row=row.row)


def _with_keys_of_rows(
    c: Connection, records: Sequence[FeedbackRecord]
) -> Sequence[FeedbackRecord]:
    named = {r.request for r in records if r.key is None and r.features is None}
    if not named or c.execute(ANY).first() is None:
        return records
    p = t.predictions.c
    with_keys: dict[bytes, bytes] = {}
    for part in chunks(sorted(named)):
        query = select(p.request, p.own_keys).where(p.request.in_(part), p.own_keys.is_not(None))
        with_keys.update((bytes(r.request), bytes(r.own_keys)) for r in c.execute(query))
    return [
        replace(r, key=key_at(with_keys[r.request], r.row))
        if r.key is None and r.request in with_keys else r
        for r in records
    ]  # fmt: skip


def _labelled_rows(c: Connection, keys: set[bytes]) -> dict[bytes, Bound]:
    """The rows that keys are bound to by a label."""
    f = t.feedback.c
    rows: dict[bytes, Bound] = {}
    for part in chunks(sorted(keys)):
        bound = f.row != WAITS, f.features.is_(None)
        query = select(f.key, f.request, f.row).where(f.key.in_(part), *bound)
        rows.update((bytes(r.key), Bound(bytes(r.request), r.row)) for r in c.execute(query))
    return rows


def _rows_at(c: Connection, places: dict[bytes, int]) -> dict[bytes, Bound]:
    p = t.predictions.c
    requests: dict[int, bytes] = {}
    for part in chunks(sorted({place // ROWS for place in places.values()})):
        found = c.execute(select(p.seq, p.request).where(p.seq.in_(part)))
        requests.update((r.seq, bytes(r.request)) for r in found)
    return {
        key: Bound(requests[place // ROWS], place % ROWS)
        for key, place in places.items()
        if place // ROWS in requests
    }


def _bind(c: Connection, key: bytes, row: Bound) -> None:
    """Bind the labels that wait under a key; one of the row itself, by its id, is left in force."""
    f, other = t.feedback.c, t.feedback.alias().c
    labelled = select(other.seq).where(other.request == row.request, other.row == row.row)
    waiting = update(t.feedback).where(f.key == key, f.row == WAITS, ~labelled.exists())
    c.execute(waiting.values(request=row.request, row=row.row))
