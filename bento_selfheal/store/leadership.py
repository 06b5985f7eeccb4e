"""The runner's side of the store: its lease, its status, and the steps that it writes whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from bento_selfheal.core.audit.entry import FILE, HOST, RUNNER
from bento_selfheal.core.records import Event, Measurement, Promotion, Snapshot
from bento_selfheal.core.review.asked_row import AskedRow
from bento_selfheal.core.transitions import LEASES, Asker, Grant, lease_at
from bento_selfheal.errors import LeaseLost, PromotionMoved, StoreError
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.audit.audit import append_audit
from bento_selfheal.store.connections import Part
from bento_selfheal.store.keys import chunks
from bento_selfheal.store.labels.asked import append_asked, ask_anew, close_all
from bento_selfheal.store.logs import newest_place
from bento_selfheal.store.promotions import append_promotions, move_point
from bento_selfheal.store.schema import get_meta, put_meta


@dataclass
class StepRecord:
    """All that one step of the runner changes; written at once or not at all."""

    state: bytes
    """The runner's checkpoint after the step."""
    status: dict[str, Any]
    """What the runner shows of itself after the step."""
    snapshots: list[Snapshot] = field(default_factory=list)
    """New snapshots, and ones whose figures have changed."""
    dropped: list[int] = field(default_factory=list)
    """Versions that leave the model store."""
    promotions: list[Promotion] = field(default_factory=list)
    after_promotion: int = 0
    """The newest promotion when the step began; a newer one voids the step."""
    events: list[Event] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    asked: list[AskedRow] = field(default_factory=list)
    """Rows whose labels people are asked for."""
    asked_anew: bool = False
    """Whether these take the place of all rows that wait."""
    operating_point: str = ""
    """The operating point that moved, as JSON for the workers; empty while it has not moved."""


class Leadership(Part):
    """The one runner that leads, and what it writes."""

    def take_over(
        self,
        clean: Snapshot,
        promotion: Promotion,
        happened: Event,
        *,
        status: dict[str, Any],
        facts: dict[str, str],
        before: str | None,
    ) -> None:
        """Let a package take over in one transaction.

        Its clean snapshot is promoted, no older snapshot is kept, the runner's checkpoint is
        void, the review queue is closed, and the facts say where the runner begins.

        Raises:
            PromotionMoved: Another package than ``before`` serves now; nothing was written.
        """
        s = t.snapshots.c
        with self._db.write() as c:
            if get_meta(c, "package") != before:
                raise PromotionMoved("another package took over at the same time")
            older = s.kept & (s.version < clean.version)
            c.execute(update(t.snapshots).where(older).values(kept=False))
            c.execute(insert(t.snapshots).values(codec.snapshot_row(clean)))
            append_promotions(c, [promotion])
            c.execute(insert(t.events), [codec.event_row(happened)])
            append_audit(c, "deploy", promotion.by, happened.detail, HOST)
            for key, value in facts.items():
                put_meta(c, key, value)
            close_all(
                c
            )  # the rows are of other features and classes, and their labels teach nothing
            _begin(c, status)

    def status(self) -> dict[str, Any]:
        """The status that the runner last showed; empty before its first step."""
        with self._db.read() as c:
            return dict(c.execute(select(t.runner.c.status)).scalar() or {})

    def state(self) -> bytes | None:
        """The runner's checkpoint."""
        with self._db.read() as c:
            return c.execute(select(t.runner.c.state)).scalar()

    def begin_status(self, status: dict[str, Any]) -> None:
        """Show where a deployment starts, before any runner leads; voids the checkpoint."""
        with self._db.write() as c:
            _begin(c, status)

    def acquire_lease(self, owner: str, seconds: float) -> int | None:
        """Take or renew the lease.

        Returns:
            The fencing token; None while another runner leads.

        Raises:
            StoreError: Nothing was deployed yet.
        """
        with self._db.write() as c:
            row = c.execute(select(t.runner.c.owner, t.runner.c.token, t.runner.c.until)).first()
            now = _now(c)
            if row is None:
                raise StoreError("the store has no package yet; deploy one first")
            asker = Asker.HOLDER if row.owner == owner else Asker.OTHER
            grant = LEASES[lease_at(row.until, now, seconds), asker]
            if grant is Grant.REFUSE:
                return None
            token = row.token + 1 if grant is Grant.SUCCEED else row.token
            c.execute(update(t.runner).values(owner=owner, token=token, until=now + seconds))
            return int(token)

    def leader(self) -> str | None:
        """The runner that holds the lease; None while there is none."""
        with self._db.read() as c:
            row = c.execute(select(t.runner.c.owner, t.runner.c.until)).first()
            return row.owner if row is not None and row.until > _now(c) else None

    def release_lease(self, owner: str) -> None:
        """Give the lease back, so that a successor can lead at once."""
        with self._db.write() as c:
            c.execute(update(t.runner).where(t.runner.c.owner == owner).values(until=0.0))

    def show_status(self, token: int, status: dict[str, Any]) -> None:
        """Show the runner's status between two steps.

        Raises:
            LeaseLost: Another runner leads now.
        """
        with self._db.write() as c:
            _fenced(c, token, {"status": status})

    def commit(self, token: int, step: StepRecord) -> int:
        """Write one step of the runner.

        Returns:
            The place of the newest promotion.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
            PromotionMoved: An operator's promotion came first; nothing was written.
        """
        place = newest_place(t.promotions)
        with self._db.write() as c:
            _fenced(c, token, {"state": step.state, "status": step.status})
            if c.execute(place).scalar_one() != step.after_promotion:
                raise PromotionMoved("an operator changed what serves during this step")
            _write_snapshots(c, step.snapshots)
            if step.dropped:
                gone = t.snapshots.c.version.in_(step.dropped)
                c.execute(update(t.snapshots).where(gone).values(kept=False))
            append_promotions(c, step.promotions)
            if step.operating_point:
                move_point(c, json.loads(step.operating_point))
            if step.events:
                c.execute(insert(t.events), [codec.event_row(e) for e in step.events])
            for event in step.events:
                if event.kind == "thresholds":
                    by, role = event.detail.get("by", "runner"), event.detail.get("role", FILE)
                    append_audit(c, "thresholds_changed", by, event.detail, role)
            (ask_anew if step.asked_anew else append_asked)(c, step.asked)
            if step.measurements:
                rows = [codec.measurement_row(m) for m in step.measurements]
                c.execute(insert(t.measurements), rows)
            return int(c.execute(place).scalar_one())

    def feed_places(self, feed: str) -> dict[str, Any]:
        """How far the items of a feed are read."""
        f = t.feed_places.c
        with self._db.read() as c:
            rows = c.execute(select(f.item, f.place).where(f.feed == feed))
            return {row.item: row.place for row in rows}

    def put_places(
        self,
        token: int,
        feed: str,
        places: Mapping[str, Any],
        audited: Mapping[str, Any] | None = None,
    ) -> None:
        """Write how far items of a feed are read, after the labels that were read there.

        Args:
            token: The lease's fencing token.
            feed: Its name.
            places: By item.
            audited: What the audit keeps of the rows that were read; None where there were none.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
        """
        f = t.feed_places.c
        with self._db.write() as c:
            check_leads(c, token)
            for item, place in places.items():
                known = (f.feed == feed) & (f.item == item)
                values = {"place": place, "time": time.time()}
                if c.execute(update(t.feed_places).where(known).values(values)).rowcount == 0:
                    c.execute(insert(t.feed_places).values(feed=feed, item=item, **values))
            if audited is not None:
                append_audit(c, "feed", "runner", {"feed": feed, **audited}, RUNNER)

    def forget_places(self, token: int, feed: str, items: Sequence[str]) -> None:
        """Forget items of a feed that are no more.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
        """
        f = t.feed_places.c
        with self._db.write() as c:
            check_leads(c, token)
            for part in chunks(list(items)):
                c.execute(delete(t.feed_places).where(f.feed == feed, f.item.in_(part)))


def _begin(c: Connection, status: dict[str, Any]) -> None:
    """Make or void the runner's row."""
    if c.execute(update(t.runner).values(state=None, status=status)).rowcount == 0:
        c.execute(
            insert(t.runner).values(id=1, owner="", token=0, until=0.0, state=None, status=status)
        )


def _write_snapshots(c: Connection, snapshots: Iterable[Snapshot]) -> None:
    """Write new snapshots, and the figures of known ones."""
    for snapshot in snapshots:
        values = codec.snapshot_row(snapshot)
        known = t.snapshots.c.version == snapshot.version
        if c.execute(update(t.snapshots).where(known).values(values)).rowcount == 0:
            c.execute(insert(t.snapshots).values(values))


def _fenced(c: Connection, token: int, values: dict[str, Any]) -> None:
    """Change the runner's row, if this token still leads."""
    # By name: SQLAlchemy keeps a compiled statement with the values that stand in it.
    change = update(t.runner).where(t.runner.c.token == bindparam("leads"))
    done = c.execute(change, {**values, "leads": token})
    if done.rowcount != 1:
        raise LeaseLost(f"the lease with token {token} has passed to another runner")


def check_leads(c: Connection, token: int) -> None:
    """Check inside a transaction that a token still leads.

    Raises:
        LeaseLost: Another runner leads now.
    """
    if c.execute(select(t.runner.c.token)).scalar() != token:
        raise LeaseLost(f"the lease with token {token} has passed to another runner")


def _now(c: Connection) -> float:
    """Seconds since the epoch, by the clock that all processes of a store share."""
    if c.dialect.name == "postgresql":
        return float(c.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()
