"""Events that retention took before a receiver had them: counted until people are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from bento_selfheal.store import tables as t
from bento_selfheal.store.webhooks.tables import webhook_places

LOST = ""
"""The kind under which a webhook's row has, by kind, how many events it lost."""


def count_lost(c: Connection, gone: Sequence[int]) -> None:
    """Count events that are about to be deleted for each webhook that has yet to send them.

    Args:
        c: The transaction that deletes them.
        gone: Their places.
    """
    w, e = webhook_places.c, t.events.c
    behind = select(w.hook, w.kind, w.place).where(w.kind != LOST, w.place < max(gone))
    hooks = c.execute(behind).all()
    if not hooks:
        return
    going = c.execute(select(e.seq, e.kind, e.detail).where(e.seq.in_(gone))).all()
    for name in {r.hook for r in hooks}:
        places = {r.kind: r.place for r in hooks if r.hook == name}
        lost = Counter(
            r.kind for r in going
            if r.seq > places.get(r.kind, r.seq) and r.detail.get("hook") != name
        )  # fmt: skip
        if lost:
            put_lost(c, name, lost_of(c, name) + lost)


def lost_of(c: Connection, hook: str) -> Counter[str]:
    """How many events of each kind a webhook has lost that nobody was told of."""
    w = webhook_places.c
    query = select(w.state).where(w.hook == hook, w.kind == LOST)
    return Counter(c.execute(query).scalar() or {})


def put_lost(c: Connection, hook: str, lost: Counter[str]) -> None:
    """Write how many events of each kind a webhook has lost."""
    w = webhook_places.c
    c.execute(delete(webhook_places).where(w.hook == hook, w.kind == LOST))
    if lost:
        row: dict[str, Any] = {"hook": hook, "kind": LOST, "place": 0, "state": dict(lost)}
        c.execute(insert(webhook_places), [row])
