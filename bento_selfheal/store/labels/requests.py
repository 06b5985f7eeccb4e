"""Logged requests, and the labels of their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select

from bento_selfheal.core.ids import KEY_HASH_BYTES, key_at
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.connections import Part
from bento_selfheal.store.keys import chunks


class RequestQueries(Part):
    """Looks requests up in the prediction log."""

    def predictions_of(self, requests: set[bytes]) -> dict[bytes, PredictionRecord]:
        """Logged predictions by request key; requests that are not in the log are left out."""
        found: dict[bytes, PredictionRecord] = {}
        with self._db.read() as c:
            for part in chunks(sorted(requests)):
                query = select(t.predictions).where(t.predictions.c.request.in_(part))
                found.update((bytes(r.request), codec.prediction(r)) for r in c.execute(query))
        return found

    def sizes_of(self, requests: set[bytes]) -> dict[bytes, int]:
        """Bytes of logged predictions by request key; those not in the log are left out."""
        p = t.predictions.c
        size = (func.length(p.features) + func.length(p.probabilities)).label("size")
        sizes: dict[bytes, int] = {}
        with self._db.read() as c:
            for part in chunks(sorted(requests)):
                found = c.execute(select(p.request, size).where(p.request.in_(part)))
                sizes.update((bytes(r.request), r.size) for r in found)
        return sizes

    def requests_after(self, place: int, upto: int, limit: int) -> list[PredictionRecord]:
        """The oldest requests of the prediction log after a place, up to another."""
        p = t.predictions.c
        between = p.seq > place, p.seq <= upto
        with self._db.read() as c:
            rows = c.execute(select(t.predictions).where(*between).order_by(p.seq).limit(limit))
            return [codec.prediction(r) for r in rows]

    def labels_of(self, asked: Sequence[PredictionRecord]) -> dict[bytes, list[FeedbackRecord]]:
        """All labels by request key: those of its rows, and of its rows' own keys where they are
        bound to the row of another request."""
        f = t.feedback.c
        found: dict[bytes, list[FeedbackRecord]] = defaultdict(list)
        by_key: dict[bytes, list[bytes]] = defaultdict(list)
        for a in asked:
            for row in range(len(a.keys) // KEY_HASH_BYTES):
                by_key[key_at(a.keys, row)].append(a.request)
        with self._db.read() as c:
            for part in chunks(sorted({a.request for a in asked})):
                for r in c.execute(select(t.feedback).where(f.request.in_(part))):
                    found[bytes(r.request)].append(codec.feedback(r))
            for keys in chunks(sorted(by_key)):
                bound_rows = select(t.feedback).where(f.key.in_(keys), f.row != WAITS)
                for label in map(codec.feedback, c.execute(bound_rows)):
                    for request in by_key[label.key or b""]:
                        if label.request != request:
                            found[request].append(label)
        return found

    def rows_of(self, requests: set[bytes]) -> dict[bytes, int]:
        """How many rows each request has; requests that are not in the log are left out."""
        p = t.predictions.c
        found: dict[bytes, int] = {}
        with self._db.read() as c:
            for part in chunks(sorted(requests)):
                rows = c.execute(select(p.request, p.rows).where(p.request.in_(part)))
                found.update((bytes(r.request), r.rows) for r in rows)
        return found
