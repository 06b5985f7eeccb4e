"""How far webhooks have told their receivers of events, by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, insert, select, update

from bento_selfheal.core.audit.entry import RUNNER
from bento_selfheal.core.records import Event
from bento_selfheal.store import codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.audit.audit import append_audit
from bento_selfheal.store.connections import Part
from bento_selfheal.store.leadership import check_leads
from bento_selfheal.store.logs import newest_place
from bento_selfheal.store.webhooks.lost import LOST, lost_of, put_lost
from bento_selfheal.store.webhooks.tables import webhook_places


@dataclass(frozen=True)
class Place:
    """Where a webhook stands among the events of a kind."""

    seq: int
    """The newest event that its receiver has, or that was given up."""
    attempts: int = 0
    """Failed ones in a row."""
    next_try: float = 0.0
    """Seconds since the epoch; not before. 0 where nothing is to be tried again."""
    tried: float = 0.0
    """When the newest attempt was."""
    delivered: int = 0
    failed: int = 0
    """Failed attempts in all."""
    given_up: int = 0
    """Events that the receiver never got."""
    reason: str = ""
    """Of the newest failure; empty while there is none."""


@dataclass(frozen=True)
class Backlog:
    """Events that wait for a receiver."""

    events: int
    oldest: float | None
    """Time of the oldest one."""


class WebhookPlaces(Part):
    """The places of webhooks."""

    def newest_event(self) -> int:
        """The place of the newest event."""
        with self._db.read() as c:
            return int(c.execute(newest_place(t.events)).scalar_one())

    def newest_by_kind(self) -> dict[str, int]:
        """The place of the newest event of each kind."""
        e = t.events.c
        with self._db.read() as c:
            return {r.kind: r.seq for r in c.execute(
                select(e.kind, func.max(e.seq).label("seq")).group_by(e.kind)
            )}  # fmt: skip

    def next_events(self, kind: str, after: int, limit: int) -> list[Event]:
        """Events of a kind after a place, oldest first."""
        e = t.events.c
        query = select(t.events).where(e.kind == kind, e.seq > after).order_by(e.seq).limit(limit)
        with self._db.read() as c:
            return [codec.event(r) for r in c.execute(query)]

    def backlog(self, places: Mapping[str, Place]) -> Backlog:
        """How many events of these kinds are behind their places."""
        e, number, oldest = t.events.c, 0, []
        with self._db.read() as c:
            for kind, place in places.items():
                behind = select(func.count(), func.min(e.time)).where(
                    e.kind == kind, e.seq > place.seq
                )
                count, first = c.execute(behind).one()
                number += count
                oldest += [first] if count else []
        return Backlog(number, min(oldest, default=None))

    def webhook_places(self, token: int, hook: str, kinds: Iterable[str]) -> dict[str, Place]:
        """Where a webhook stands; of a kind that it is new to, behind what has happened so far.

        Raises:
            LeaseLost: Another runner leads now.
        """
        w = webhook_places.c
        query = select(w.kind, w.place, w.state).where(w.hook == hook, w.kind != LOST)
        with self._db.read() as c:
            known = {r.kind: Place(r.place, **r.state) for r in c.execute(query)}
        missing = [kind for kind in kinds if kind not in known]
        if missing:
            with self._db.write() as c:
                check_leads(c, token)
                new = Place(int(c.execute(newest_place(t.events)).scalar_one()))
                c.execute(insert(webhook_places), [_row(hook, kind, new) for kind in missing])
            known |= dict.fromkeys(missing, new)
        return {kind: known[kind] for kind in kinds}

    def move_webhook(
        self,
        token: int,
        hook: str,
        kind: str,
        place: Place,
        *,
        audited: Mapping[str, Any] | None = None,
        events: Sequence[Event] = (),
    ) -> None:
        """Write where a webhook stands, with what people are to know of it.

        Args:
            token: The lease's fencing token.
            hook: Its name.
            kind: Of events.
            place: Where it stands.
            audited: What the audit keeps of it; None where a delivery is not over yet.
            events: About the webhook itself.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
        """
        w = webhook_places.c
        with self._db.write() as c:
            check_leads(c, token)
            known = (w.hook == hook) & (w.kind == kind)
            c.execute(update(webhook_places).where(known).values(_row(hook, kind, place)))
            if audited is not None:
                append_audit(c, "webhook", "runner", {"hook": hook, **audited}, RUNNER)
            if events:
                c.execute(insert(t.events), [codec.event_row(e) for e in events])

    def lost_events(self, hook: str) -> dict[str, int]:
        """How many events of each kind retention took before a webhook had sent them, of which
        nobody was told."""
        with self._db.read() as c:
            return dict(lost_of(c, hook))

    def tell_lost(self, token: int, hook: str, places: Mapping[str, Place], event: Event) -> None:
        """Tell people of events that a webhook has lost.

        Args:
            token: The lease's fencing token.
            hook: Its name.
            places: Where it stands, of the kinds that people are told of.
            event: What they are told; ``kinds`` in its detail says how many of each are lost.

        Raises:
            LeaseLost: Another runner leads now; nothing was written.
        """
        w, kinds = webhook_places.c, event.detail["kinds"]
        with self._db.write() as c:
            check_leads(c, token)
            put_lost(c, hook, lost_of(c, hook) - Counter(kinds))
            for kind, place in places.items():
                known = (w.hook == hook) & (w.kind == kind)
                c.execute(update(webhook_places).where(known).values(_row(hook, kind, place)))
            append_audit(c, "webhook", "runner", {"hook": hook, "lost": kinds}, RUNNER)
            c.execute(insert(t.events), [codec.event_row(event)])


def _row(hook: str, kind: str, place: Place) -> dict[str, Any]:
    state = asdict(place)
    return {"hook": hook, "kind": kind, "place": state.pop("seq"), "state": state}
