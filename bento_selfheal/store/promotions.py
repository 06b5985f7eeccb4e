"""What may serve and what serves: snapshots, their adapters, and the promotion log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from bento_selfheal.core.going_back import Turn
from bento_selfheal.core.log.serving_state import ServingState
from bento_selfheal.core.records import Event, Phase, Promotion, PromotionKind, Snapshot
from bento_selfheal.core.transitions import may_serve
from bento_selfheal.errors import CommandError
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.audit.audit import append_audit
from bento_selfheal.store.connections import Part
from bento_selfheal.store.schema import put_meta

OPERATING_POINT = "operating_point"
"""The fact that holds the operating point that was put in force last, with its version."""
NEWEST_TURNS = 1000
_MOVED_POINT = select(t.meta.c.value).where(t.meta.c.key == OPERATING_POINT).scalar_subquery()
# Built once: every worker asks ten times a second.
_NEWEST = (
    select(t.promotions, _MOVED_POINT.label("moved")).order_by(t.promotions.c.seq.desc()).limit(1)
)
_FOR_ALL = t.promotions.c.kind != PromotionKind.CANARY.value
_SERVING = _NEWEST.where(_FOR_ALL)


class Promotions(Part):
    """Snapshots, adapters and promotions."""

    def snapshots(
        self, *, kept_only: bool = True, after: int = 0, limit: int | None = None
    ) -> list[Snapshot]:
        """Snapshots by version, oldest first.

        Args:
            kept_only: Leave out those that were dropped from the model store.
            after: Only later versions.
            limit: Most snapshots to return; None for all.
        """
        s = t.snapshots.c
        query = select(t.snapshots).where(s.version > after).order_by(s.version).limit(limit)
        if kept_only:
            query = query.where(s.kept)
        with self._db.read() as c:
            return [codec.snapshot(r) for r in c.execute(query)]

    def newest_version(self) -> int:
        """The highest version that any snapshot ever had; 0 without snapshots."""
        with self._db.read() as c:
            return int(c.execute(select(func.max(t.snapshots.c.version))).scalar() or 0)

    def newest_promotion(self) -> Promotion | None:
        """The promotion that decides what serves now."""
        return self.serving_state().promotion

    def serving_state(self) -> ServingState:
        """What serves, the operating point that was put in force last, and the canary beside it.

        The first two are read in one statement, so they never come from two moments;
        `core.decision.serving_point` says which operating point belongs to the promotion.
        """
        with self._db.read() as c:
            newest = c.execute(_NEWEST).first()
            if newest is None:
                return ServingState(None, None)
            if newest.kind != PromotionKind.CANARY.value:
                return ServingState(codec.promotion(newest), newest.moved)
            row = c.execute(_SERVING).one()
        canary = codec.promotion(newest) if newest.seq > row.seq else None
        return ServingState(codec.promotion(row), row.moved, canary)

    def promotions(
        self, after: int | None = None, limit: int = 1000, before: int | None = None
    ) -> list[Promotion]:
        """One page of the promotion log, oldest first; see `Part.page` for which one."""
        rows = self.page(t.promotions, t.promotions.c.seq, after, before, limit)
        return [codec.promotion(r) for r in rows]

    def turns(self, limit: int = NEWEST_TURNS) -> list[Turn]:
        """Kind and version of the newest promotions, oldest first."""
        with self._db.read() as c:
            return newest_turns(c, limit)

    def servable(self) -> list[Promotion]:
        """The newest promotion of each kept snapshot, oldest first: the fallbacks for when the
        newest promotion of all does not verify."""
        p, s = t.promotions.c, t.snapshots.c
        query = (
            select(t.promotions, s.operating_point.label("last_point"))
            .join_from(t.promotions, t.snapshots, s.version == p.version)
            .where(p.seq.in_(newest_of_kept()))
            .order_by(p.seq)
        )
        with self._db.read() as c:
            rows = [(codec.promotion(r), codec.point(r.last_point)) for r in c.execute(query)]
        return [replace(p, operating_point=last or p.operating_point) for p, last in rows]

    def promote(self, promotion: Promotion, happened: Event) -> Promotion:
        """Write an operator's promotion, which belongs to no step of the runner; the audit has it.

        Without an operating point of its own it gets the last one that its snapshot served with.

        Returns:
            The promotion as it was written.

        Raises:
            CommandError: The snapshot is no longer kept.
        """
        s = t.snapshots.c
        with self._db.write() as c:
            query = select(s.kept, s.operating_point).where(s.version == promotion.version)
            found = c.execute(query).first()
            if found is None or not found.kept:
                raise CommandError(
                    f"version: snapshot {promotion.version} is no longer kept; choose one of "
                    "`bento-selfheal snapshots`"
                )
            point = promotion.operating_point or codec.point(found.operating_point)
            [written] = append_promotions(c, [replace(promotion, operating_point=point)])
            c.execute(insert(t.events), [codec.event_row(happened)])
            append_audit(c, happened.kind, promotion.by, happened.detail)
        return written

    def keep_adapter(self, sha256: str, blob: bytes, signature: str) -> None:
        """Keep an adapter's bytes under their hash, with their signature or ``""``."""
        with self._db.write() as c:
            known = t.adapters.c.sha256 == sha256
            signed = update(t.adapters).where(known).values(signature=signature)
            if not c.execute(signed).rowcount:
                values = {"sha256": sha256, "time": time.time(), "blob": blob}
                c.execute(insert(t.adapters).values(**values, signature=signature))

    def adapter(self, sha256: str) -> tuple[bytes, str] | None:
        """The bytes of an adapter and their signature; None where the store has no such adapter."""
        a = t.adapters.c
        with self._db.read() as c:
            found = c.execute(select(a.blob, a.signature).where(a.sha256 == sha256)).first()
        return None if found is None else (bytes(found.blob), found.signature)


def newest_turns(c: Connection, limit: int = NEWEST_TURNS) -> list[Turn]:
    """Kind and version of the newest promotions, oldest first."""
    p = t.promotions.c
    query = select(p.kind, p.version).order_by(p.seq.desc()).limit(limit)
    return [(PromotionKind(r.kind), r.version) for r in reversed(c.execute(query).all())]


def kept_snapshots(c: Connection) -> list[Snapshot]:
    """The snapshots that may serve, by version, oldest first."""
    s = t.snapshots.c
    return [
        codec.snapshot(r) for r in c.execute(select(t.snapshots).where(s.kept).order_by(s.version))
    ]


def newest_of_kept() -> Select[tuple[int]]:
    """The statement for the place of each kept snapshot's newest promotion to serve all."""
    p, s = t.promotions.c, t.snapshots.c
    # One look-up in the index per snapshot: one of them may have been promoted any number of times.
    newest = select(func.max(p.seq)).where(p.version == s.version, _FOR_ALL).scalar_subquery()
    return select(func.coalesce(newest, 0)).where(s.kept)


def append_promotions(c: Connection, promotions: Iterable[Promotion]) -> list[Promotion]:
    """Write promotions that the tables of `transitions` allow; as written, with their places."""
    return [_append(c, promotion) for promotion in promotions]


def _append(c: Connection, promotion: Promotion) -> Promotion:
    s = t.snapshots.c
    found = c.execute(select(s.phase, s.kept).where(s.version == promotion.version)).one()
    may_serve(promotion.kind, Phase(found.phase), kept=found.kept)
    done = c.execute(insert(t.promotions).values(codec.promotion_row(promotion)))
    if promotion.operating_point is not None:
        point = {**promotion.operating_point.as_dict(), "version": promotion.version}
        if promotion.kind is PromotionKind.CANARY:  # that in force is of what serves the others
            _note_point(c, point)
        else:
            move_point(c, point)
    return replace(promotion, seq=int(done.inserted_primary_key[0]))  # type: ignore[index]


def move_point(c: Connection, point: dict[str, Any]) -> None:
    """Put an operating point in force, and note it for a rollback to its snapshot.

    Args:
        c: A transaction that lets nobody else promote.
        point: The point's JSON values. Without a ``version`` it belongs to the newest promotion.
    """
    if "version" not in point:
        p = t.promotions.c
        newest = c.execute(select(p.version).where(_FOR_ALL).order_by(p.seq.desc()).limit(1))
        point = {**point, "version": newest.scalar()}
    put_meta(c, OPERATING_POINT, json.dumps(point))
    _note_point(c, point)


def _note_point(c: Connection, point: dict[str, Any]) -> None:
    """Note a snapshot's operating point for a rollback to it."""
    known = t.snapshots.c.version == point["version"]
    c.execute(update(t.snapshots).where(known).values(operating_point=point))
