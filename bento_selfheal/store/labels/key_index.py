"""The index of own keys, which is written late: many keys at once, in the order of the index.

Keys that are logged are only counted. The runner indexes them, and what it has not come to is
indexed before a label looks for a key. Hashes lie anywhere in the index: one commit's few touch a
page each, and writing those pages would cost more than the predictions do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson
from numpy.typing import NDArray
from sqlalchemy import Connection, case, select, text, update

from bento_selfheal.core.ids import KEY_HASH_BYTES
from bento_selfheal.store import tables as t

ROWS = 2**24
"""Rows that a place has room for, as ids have."""
PART = 50_000
"""Keys that are indexed at once, in some 50 ms; labels and predictions wait for that long."""
MOST_NEW = 500_000
"""Keys that may wait for the index where no runner leads."""
POINT_AT = "on conflict (key) do update set place = excluded.place"
INDEX = {
    "sqlite": text(f"""insert into prediction_keys (key, place)
        select substr(:keys, {KEY_HASH_BYTES} * j.key + 1, {KEY_HASH_BYTES}), j.value
        from json_each(:places) j where true {POINT_AT}"""),  # noqa: S608 - of our own numbers
    "postgresql": text(f"""insert into prediction_keys (key, place)
        select substr(:keys, {KEY_HASH_BYTES} * (j.n::int - 1) + 1, {KEY_HASH_BYTES}), j.place
        from unnest(cast(:places as bigint[])) with ordinality j(place, n) {POINT_AT}"""),  # noqa: S608
}
"""One statement for all: with one for each key, the database and the interpreter would wait for
each other all the time."""

Logged = Sequence[tuple[int, bytes]]
"""The place of each request, and the hashes of its rows' keys."""


def count_keys(c: Connection, keys: int, before: int) -> None:
    """Note that keys have been logged; index some where nobody else does, so that they stay few.

    Args:
        c: The transaction that has logged them.
        keys: How many.
        before: The place of the newest request before them.
    """
    u = t.unindexed_keys.c
    since = case((u.waiting == 0, before), else_=u.after)
    c.execute(update(t.unindexed_keys).values(after=since, waiting=u.waiting + keys))
    if c.execute(select(u.waiting)).scalar_one() >= MOST_NEW:
        index_part(c)


def index_part(c: Connection) -> int:
    """Point the keys of the oldest new requests at their newest predictions.

    Returns:
        How many keys are left.
    """
    new = c.execute(select(t.unindexed_keys)).one()
    if not new.waiting:
        return 0
    part = _oldest(c, new.after)
    if part:
        keys, places = _in_order(part)
        if c.dialect.name == "sqlite":
            given = orjson.dumps(places, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        else:
            given = places.tolist()
        c.execute(INDEX[c.dialect.name], {"keys": keys, "places": given})
    done = sum(len(keys) for _, keys in part) // KEY_HASH_BYTES
    # Where retention was faster, fewer are there than were counted; more, where a replica of an
    # older release logs beside this one and counts none.
    left = max(new.waiting - done, 1) if done >= PART else 0
    after = part[-1][0] if part else new.after
    c.execute(update(t.unindexed_keys).values(after=after, waiting=left))
    return int(left)


def index_new_keys(c: Connection) -> None:
    """Point every key that was logged at its newest prediction."""
    while index_part(c):
        pass


def any_keys(c: Connection) -> bool:
    """Whether any request in the log may have keys."""
    indexed = select(t.prediction_keys.c.place).limit(1)
    new = select(t.unindexed_keys.c.waiting).where(t.unindexed_keys.c.waiting > 0)
    return c.execute(indexed).first() is not None or c.execute(new).first() is not None


def _oldest(c: Connection, after: int) -> Logged:
    """The first requests with keys after a place: as many as have `PART` keys together."""
    p = t.predictions.c
    query = select(p.seq, p.own_keys).where(p.seq > after, p.own_keys.is_not(None)).order_by(p.seq)
    part, keys = [], 0
    with c.execute(query) as found:
        for r in found:
            part.append((r.seq, bytes(r.own_keys)))
            keys += len(part[-1][1]) // KEY_HASH_BYTES
            if keys >= PART:
                break
    return part


def _in_order(part: Logged) -> tuple[bytes, NDArray[np.int64]]:
    """The keys in the order of the index, each once, and the newest place of each."""
    sizes = [len(keys) // KEY_HASH_BYTES for _, keys in part]
    keys = np.frombuffer(b"".join(keys for _, keys in part), ">u8").reshape(-1, 2)
    begins = np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
    places = np.repeat([seq * ROWS for seq, _ in part], sizes) + np.arange(len(keys)) - begins
    head = keys[:, 0].astype("=u8")
    order = np.argsort(head)
    if np.any(np.diff(head[order]) == 0):  # some key occurs twice, or chance made two look alike
        order = np.lexsort((places, keys[:, 1], head))
    keys, places = keys[order], places[order]
    newest = np.append(np.any(keys[1:] != keys[:-1], axis=1), True)
    return keys[newest].tobytes(), places[newest]
