"""The row that a label belongs to, where another label of its key or its content has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, select

from bento_selfheal.core.records import WAITS, FeedbackRecord
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.keys import chunks


def on_labelled_rows(c: Connection, labels: Sequence[FeedbackRecord]) -> list[FeedbackRecord]:
    """Labels by key on the row that an earlier label gave with this key, or gave the key to.

    So a label that came with its row's features is corrected and taken back by its key, too.
    """
    open_ = {r.key for r in labels if r.key and (r.row == WAITS or r.features is not None)}
    rows, placed = _rows_of(c, open_), []
    for r in labels:
        if r.key in open_:
            if r.features is not None:
                rows.setdefault(r.key, {"request": r.request, "row": r.row, "features": r.features})
            r = replace(r, **rows.get(r.key, {}))
        placed.append(r)
    return placed


def _rows_of(c: Connection, keys: set[bytes]) -> dict[bytes, dict[str, Any]]:
    """By key, the row of its first label that has one."""
    f = t.feedback.c
    rows: dict[bytes, dict[str, Any]] = {}
    for part in chunks(sorted(keys)):
        query = select(f.key, f.request, f.row, f.features).where(f.key.in_(part), f.row != WAITS)
        for r in c.execute(query.order_by(f.seq.desc())):
            features = None if r.features is None else codec.unpack(r.features)
            rows[bytes(r.key)] = {"request": bytes(r.request), "row": r.row, "features": features}
    return rows


def new_class_of(c: Connection, request: bytes, row: int) -> str | None:
    """The newest class of a row that the packaged model does not have; None for any other."""
    f = t.feedback.c
    query = select(f.new_class).where(f.request == request, f.row == row)
    return c.execute(query.order_by(f.revision.desc()).limit(1)).scalar()
