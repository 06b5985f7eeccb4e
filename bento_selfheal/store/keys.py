"""Own keys of rows: each points at its newest prediction, and binds its label to one row.

A key is bound under the lock of both logs, so at a place of their common order: with its label
where the log has a prediction of it, else with the first prediction that is logged after the label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    tuple_,
    update,
)

from bento_selfheal.core.ids import KEY_HASH_BYTES, key_at
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.store import tables as t
from bento_selfheal.store.labels.key_index import ROWS, any_keys, count_keys, index_new_keys

PER_STATEMENT = 500
"""Values that one statement names."""
COUNT = "with recursive n(i) as (select 0 union all select i + 1 from n where i + 1 < :count),"
KEY = f"substr(:keys, {KEY_HASH_BYTES} * i + 1, {KEY_HASH_BYTES})"
OF_RUN = f"""{COUNT}
new(key, place) as (select {KEY}, (:first + i / :rows) * {ROWS} + i % :rows from n)
"""  # noqa: S608 - of our own numbers
WAITING = text(
    f"""{OF_RUN} select f.key as key, min(new.place) as place from new cross join feedback f
    where f."row" = -1 and f.key = new.key group by f.key"""  # noqa: S608
)
"""The new keys first (SQLite keeps to the order of a cross join): labels may wait in vain."""
OF_LABELS = f"{COUNT} named(i, key) as (select i, {KEY} from n)"  # noqa: S608
LABELLED = text(
    f"""{OF_LABELS} select n.i, f.request, f."row", f.label, f.revision,
        f.features is null as plain
    from named n cross join feedback f where f.key = n.key"""  # noqa: S608
)
NEWEST = text(
    f"""{OF_LABELS} select n.i, p.request, k.place, f.label, f.revision
    from named n cross join prediction_keys k
    join predictions p on p.seq = k.place / {ROWS}
    left join feedback f on f.request = p.request and f."row" = k.place % {ROWS}
    where k.key = n.key"""  # noqa: S608
)
WAIT = select(t.feedback.c.key).where(t.feedback.c.row == literal_column(str(WAITS))).limit(1)
"""Labels that wait; as it is written, the index of these holds the answer."""

T = TypeVar("T")


Place = tuple[bytes, int]
"""(request, row) of a prediction, or (key, `WAITS`)."""
Labels = dict[Place, tuple[int, int]]
"""(label, revision) of each that has a label."""


@dataclass(frozen=True)
class Kept:
    """The newest label of each place."""

    labels: Labels = field(default_factory=dict)

    def add(self, place: Place, label: int, revision: int) -> None:
        """Take a label in unless there is a newer one."""
        if place not in self.labels or self.labels[place][1] < revision:
            self.labels[place] = label, revision


def log_keys(c: Connection, records: Sequence[PredictionRecord], last: int) -> None:
    """Take the keys of new requests, and bind the labels that wait for one.

    Args:
        c: The transaction that has written the requests.
        records: They; their places follow each other.
        last: The place of the last of them.
    """
    before = last - len(records)
    runs = list(_runs(records, before + 1))
    if runs:
        count_keys(c, sum(run["count"] for run in runs), before)
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


def bound(c: Connection, records: Sequence[FeedbackRecord]) -> tuple[list[FeedbackRecord], Labels]:
    """Labels with the row that each belongs to and with its key, and what is kept by the keys.

    A label by id takes the key of its row, so that one by key is known to be the same.

    Returns:
        The labels, and those that are kept for their keys and for the rows of the keys.
    """
    records = _with_keys_of_rows(c, records)
    keys = sorted({r.key for r in records if r.key is not None})
    if not keys:
        return records, {}
    kept = Kept()
    labelled = _labelled_rows(c, keys, kept)
    newest = _newest_rows(c, [key for key in keys if key not in labelled], kept)
    return [_on_its_row(r, labelled, newest) for r in records], kept.labels


def _labelled_rows(c: Connection, keys: list[bytes], kept: Kept) -> dict[bytes, Place]:
    """The rows that keys are bound to by a label."""
    rows: dict[bytes, Place] = {}
    for i, request, row, label, revision, plain in _of_keys(c, LABELLED, keys):
        kept.add((keys[i], WAITS), label, revision)
        if row != WAITS and plain:
            rows[keys[i]] = bytes(request), row
    f = t.feedback.c
    for part in chunks(sorted(rows.values())):
        query = select(f.request, f.row, f.label, f.revision)
        for r in c.execute(query.where(tuple_(f.request, f.row).in_(part))):
            kept.add((bytes(r.request), r.row), r.label, r.revision)
    return rows


def _newest_rows(c: Connection, keys: list[bytes], kept: Kept) -> dict[bytes, Place]:
    """The row of the newest prediction of each key; keys without one are left out."""
    if keys:
        index_new_keys(c)
    rows: dict[bytes, Place] = {}
    for i, request, place, label, revision in _of_keys(c, NEWEST, keys):
        row = rows[keys[i]] = bytes(request), place % ROWS
        if label is not None:
            kept.add(row, label, revision)
    return rows


def _of_keys(c: Connection, statement: Any, keys: list[bytes]) -> Iterable[Any]:
    if not keys:
        return ()
    return c.execute(statement, {"keys": b"".join(keys), "count": len(keys)})


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
    label: FeedbackRecord, labelled: dict[bytes, Place], newest: dict[bytes, Place]
) -> FeedbackRecord:
    """A label on the row that its key is bound to, if it is; one with features brings its row."""
    if label.key is None or label.features is not None:
        return label
    row = labelled.get(label.key)
    if row is None and label.row == WAITS:
        row = newest.get(label.key)
    if row is None:
        return label
    # `dataclasses.replace` takes four times as long, for each of thousands of labels a second.
    return FeedbackRecord(
        *row, label.label, label.time, label.source, corrects=label.corrects, trace=label.trace,
        key=label.key, new_class=label.new_class,
    )  # fmt: skip


def _with_keys_of_rows(c: Connection, records: Sequence[FeedbackRecord]) -> list[FeedbackRecord]:
    records = list(records)
    named = {r.request for r in records if r.key is None and r.features is None}
    if not named or not any_keys(c):
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


def _rows_at(c: Connection, places: dict[bytes, int]) -> dict[bytes, Place]:
    p = t.predictions.c
    requests: dict[int, bytes] = {}
    for part in chunks(sorted({place // ROWS for place in places.values()})):
        found = c.execute(select(p.seq, p.request).where(p.seq.in_(part)))
        requests.update((r.seq, bytes(r.request)) for r in found)
    return {
        key: (requests[place // ROWS], place % ROWS)
        for key, place in places.items()
        if place // ROWS in requests
    }


def _bind(c: Connection, key: bytes, row: Place) -> None:
    """Bind the labels that wait under a key; one of the row itself, by its id, is left in force."""
    f, other = t.feedback.c, t.feedback.alias().c
    labelled = select(other.seq).where(other.request == row[0], other.row == row[1])
    waiting = update(t.feedback).where(f.key == key, f.row == WAITS, ~labelled.exists())
    c.execute(waiting.values(request=row[0], row=row[1]))
