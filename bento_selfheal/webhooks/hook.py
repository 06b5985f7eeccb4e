"""One webhook at work: events in their order by kind, tried again until the receiver has them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bento_selfheal.config.webhooks.webhook import Webhook
from bento_selfheal.core.periodic import PeriodicThread
from bento_selfheal.core.records import Event
from bento_selfheal.errors import LeaseLost
from bento_selfheal.store import SqlStore
from bento_selfheal.store.webhooks.places import Backlog, Place
from bento_selfheal.webhooks.bodies import Service
from bento_selfheal.webhooks.sender import Reply, Sender

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
FIRST_RETRY = 1.0
LONGEST_RETRY = 60.0
LONGEST_ASKED = 300.0
"""Most seconds that a receiver may ask for with `Retry-After`."""
FAILING_AFTER = 3
"""Failed attempts in a row from which on people are told."""
LEAST_ATTEMPTS = 5
"""Before an event is given up, however old it is: the service may have been stopped for days."""
READ_EVENTS = 20
STOP_SECONDS = 2.0
HOUR = 3600.0
NOTHING = Backlog(0, None)


@dataclass(frozen=True)
class Leader:
    """What a webhook needs of the runner while that leads."""

    token: int
    """The lease's fencing token."""
    service: Service


class HookThread:
    """Tells a receiver of events in a thread of its own, so that it may hang as long as it likes.

    A place in the store moves behind each event once the receiver has it. After a crash between
    the two the event is sent again, with the same id.

    Args:
        hook: Its setting.
        store: Where events and places are.
        leader: What the runner gives while it leads, else None.

    Attributes:
        thread: The thread.
    """

    def __init__(self, hook: Webhook, store: SqlStore, leader: Callable[[], Leader | None]) -> None:
        self._hook = hook
        self._store = store
        self._leader = leader
        self._sender = Sender(hook)
        self._places: dict[str, Place] = {}
        self._backlog = NOTHING
        self._lost: dict[str, int] = {}
        self._looked_at = -1
        self.thread = PeriodicThread(
            f"selfheal-webhook-{hook.name}", self.look, LOOK_SECONDS, at_once=True
        )

    def state(self) -> dict[str, Any]:
        """What `/status` shows of it."""
        places, oldest = self._places.values(), self._backlog.oldest
        return {
            "name": self._hook.name,
            "host": self._hook.host,
            "template": self._hook.template,
            "kinds": list(self._hook.kinds),
            "delivered": sum(p.delivered for p in places),
            "failed": sum(p.failed for p in places),
            "given_up": sum(p.given_up for p in places),
            "waiting": self._backlog.events,
            "lost": sum(self._lost.values()),
            "oldest_seconds": 0.0 if oldest is None else max(time.time() - oldest, 0.0),
            "failing": _failing(places),
        }

    def begin(self) -> None:
        """Note where a new webhook begins, before anything happens that it is to be told of.

        Raises:
            LeaseLost: Another runner leads now.
            StoreError: The store is out of reach.
        """
        leader = self._leader()
        if leader is not None:
            kinds = self._hook.told_of
            self._places = self._store.webhook_places(leader.token, self._hook.name, kinds)

    def stop(self) -> None:
        """Finish the event in hand, unless its receiver hangs: then it is sent again."""
        if self.thread.stop(STOP_SECONDS):
            self._sender.close()

    def look(self) -> float | None:
        """Send what is new or due again; the seconds until the next look.

        Raises:
            StoreError: The store is out of reach.
        """
        leader = self._leader()
        if leader is None:
            self._looked_at = -1  # another runner moves the places meanwhile
            return None
        try:
            return self._send_new(leader)
        except LeaseLost as error:
            log.info("webhook %s: %s", self._hook.name, error)
            return None

    def _send_new(self, leader: Leader) -> float | None:
        newest = self._store.newest_event()
        if newest == self._looked_at and not self._backlog.events:
            return None
        if self._looked_at < 0:
            self.begin()
        by_kind = self._store.newest_by_kind()
        behind = {k: p for k, p in self._places.items() if by_kind.get(k, 0) > p.seq}
        self._backlog = self._store.backlog(behind) if behind else NOTHING
        self._tell_lost(leader, behind)
        for kind, place in behind.items():
            if self._is_due(place) and not self._send_kind(kind, leader):
                return None
        left = {kind: self._places[kind] for kind in behind}
        self._backlog = self._store.backlog(left) if left else NOTHING
        self._looked_at = newest
        return None

    def _tell_lost(self, leader: Leader, behind: Mapping[str, Place]) -> None:
        """Tell people once of events that retention took before they were sent: of a kind of which
        the receiver takes events again, or none waits. Until then more of them may go."""
        self._lost = self._store.lost_events(self._hook.name)
        over = {
            kind: count for kind, count in self._lost.items()
            if kind in self._places and (kind not in behind or not self._places[kind].attempts)
        }  # fmt: skip
        if not over:
            return
        places = {
            kind: replace(place, given_up=place.given_up + over[kind], next_try=0.0)
            for kind, place in self._places.items() if kind in over
        }  # fmt: skip
        detail = {"hook": self._hook.name, "events": sum(over.values()), "kinds": over}
        event = Event("webhook_lost", detail, time.time())
        self._store.tell_lost(leader.token, self._hook.name, places, event)
        self._places = {**self._places, **places}
        self._lost = {kind: n for kind, n in self._lost.items() if kind not in over}

    @staticmethod
    def _is_due(place: Place) -> bool:
        """Whether a kind may be tried now; a clock that was set back holds nobody up."""
        return not 0 < place.next_try - time.time() <= LONGEST_ASKED

    def _send_kind(self, kind: str, leader: Leader) -> bool:
        """Send the events of a kind until one fails; False where this runner is to stop."""
        while events := self._store.next_events(kind, self._places[kind].seq, READ_EVENTS):
            for event in events:
                if self.thread.stopping or self._leader() is None:
                    return False
                if not self._send(event, leader):
                    return True
        return True

    def _send(self, event: Event, leader: Leader) -> bool:
        """Send an event and move the place; whether the next one of its kind may follow."""
        before = self._places[event.kind]
        if event.detail.get("hook") == self._hook.name:  # telling it of itself would never end
            self._move(event, leader, replace(before, seq=event.seq))
            return True
        reply = self._sender.send(event, leader.service)
        before = replace(before, tried=time.time())
        if reply.taken:
            done = replace(
                before, seq=event.seq, delivered=before.delivered + 1, attempts=0, next_try=0.0,
                reason="",
            )  # fmt: skip
            self._move(
                event, leader, done, {"status": reply.status, "attempts": before.attempts + 1}
            )
            return True
        return self._failed(event, before, reply, leader)

    def _failed(self, event: Event, before: Place, reply: Reply, leader: Leader) -> bool:
        """Note a failed attempt, or that it was the last; whether the next event may follow."""
        attempts = before.attempts + 1
        wait = min(FIRST_RETRY * 2.0 ** min(attempts - 1, 30), LONGEST_RETRY)
        wait = max(wait, min(reply.retry_after, LONGEST_ASKED))
        log.warning(
            "webhook %s failed (%d in a row), next try in %.0f s: %s",
            self._hook.name, attempts, wait, reply.reason,
        )  # fmt: skip
        place = replace(
            before, attempts=attempts, failed=before.failed + 1, reason=reply.reason,
            next_try=before.tried + wait,
        )  # fmt: skip
        old = before.tried - event.time > self._hook.hours * HOUR
        if not old or attempts < LEAST_ATTEMPTS:
            self._move(event, leader, place)
            return False
        gone = replace(
            place, seq=event.seq, given_up=before.given_up + 1, attempts=FAILING_AFTER, next_try=0.0
        )
        outcome = {"given_up": True, "reason": reply.reason, "attempts": attempts}
        self._move(event, leader, gone, outcome)
        return True

    def _move(
        self, event: Event, leader: Leader, place: Place, outcome: dict[str, Any] | None = None
    ) -> None:
        """Write the new place of a kind, with what people and the audit are to know of it."""
        kind = event.kind
        was_failing = _failing(self._places.values())
        self._places = {**self._places, kind: place}
        told = [e for e in (self._change(was_failing), _given_up(event, outcome)) if e is not None]
        detail = {"hook": self._hook.name}
        self._store.move_webhook(
            leader.token, self._hook.name, kind, place,
            audited=None if outcome is None else {"kind": kind, "event": event.seq, **outcome},
            events=[Event(name, {**detail, **more}, time.time()) for name, more in told],
        )  # fmt: skip

    def _change(self, was_failing: str) -> tuple[str, dict[str, Any]] | None:
        """The event that says that the webhook has begun to fail, or works again."""
        failing = _failing(self._places.values())
        if failing and not was_failing:
            return "webhook_failing", {"reason": failing}
        return ("webhook_recovered", {}) if was_failing and not failing else None


def _failing(places: Collection[Place]) -> str:
    """Why a webhook fails; empty while it works.

    A kind whose newest event was given up fails until the receiver takes any other.
    """
    worked = max((p.tried for p in places if not p.attempts), default=0.0)
    failing = [
        p for p in places if p.attempts >= FAILING_AFTER and (p.next_try or p.tried > worked)
    ]
    return max(failing, key=lambda p: p.tried).reason if failing else ""


def _given_up(event: Event, outcome: dict[str, Any] | None) -> tuple[str, dict[str, Any]] | None:
    """The dead letter: the event that says which one the receiver never got, and why."""
    if not outcome or "given_up" not in outcome:
        return None
    known = {"event": event.seq, "kind": event.kind}
    return "webhook_gave_up", {
        **known,
        "attempts": outcome["attempts"],
        "reason": outcome["reason"],
    }
