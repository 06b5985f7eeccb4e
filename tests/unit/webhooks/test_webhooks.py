"""Webhooks: whoever is away, hangs or crashes, a receiver gets every event, in order by kind."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from deployed import dying
from receiver import SECRET, Receiver, is_genuine
from sqlalchemy import text

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import Event
from bento_selfheal.store import SqlStore
from bento_selfheal.webhooks import hook as hook_module
from bento_selfheal.webhooks import sender as sender_module
from bento_selfheal.webhooks.bodies import Service, body_of
from bento_selfheal.webhooks.hook import FAILING_AFTER, LEAST_ATTEMPTS, HookThread
from bento_selfheal.webhooks.webhooks import Webhooks

KINDS = ["promote", "rollback"]
FRAUD = Service("ab12cd", "fraud:v3", "fraud")
ROUTING_KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def store(fresh: Callable[[], str]) -> Iterator[SqlStore]:
    store = SqlStore(fresh())
    store.create()
    store.begin_status({})
    store.acquire_lease("a", 60)
    yield store
    store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try of what failed is due at the next look."""
    monkeypatch.setattr(hook_module, "FIRST_RETRY", 0.0)
    monkeypatch.setattr(hook_module, "LONGEST_RETRY", 0.0)


def opened(
    store: SqlStore, url: str, token: Callable[[], int | None] = lambda: 1, **more: Any
) -> HookThread:
    """A webhook as a runner that has just started has it; it has looked once."""
    given = {"name": "desk", "url": url, "kinds": KINDS, "secret": SECRET, **more}
    hooks = Webhooks(store, Settings(webhooks=[given]), token)
    hooks.serve("fraud:v3")
    [hook] = hooks._hooks
    hook.look()
    return hook


def tell(store: SqlStore, kind: str = "promote", **detail: Any) -> int:
    """Something happens; its place."""
    at = detail.pop("at", time.time())
    store.add_event(Event(kind, {"version": 3, "reason": "better <b>", **detail}, at))
    return store.newest_event()


def happened(store: SqlStore, kind: str) -> list[dict[str, Any]]:
    return [e.detail for e in store.events() if e.kind == kind]


# -- what arrives ----------------------------------------------------------------------------------


def test_an_answer_that_never_ends(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that sends its answer a byte at a time is cut off and told of; its next answer
    counts."""
    monkeypatch.setattr(sender_module, "LONGEST", 0.3)
    done = threading.Event()

    def trickle(slow: socket.socket) -> None:
        with slow.accept()[0] as connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not done.wait(0.01):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as slow:
        port = slow.getsockname()[1]
        thread = threading.Thread(target=trickle, args=(slow,))
        thread.start()
        hook = opened(store, f"http://127.0.0.1:{port}/")
        place = tell(store)
        hook.look()
        done.set()
        thread.join()
        assert (hook.state()["delivered"], hook.state()["failed"]) == (0, 1)
        [kept] = [p for p in hook._places.values() if p.failed]
        assert kept.reason == "TimeoutError: no whole answer within 0.3 s"
    with Receiver(port).listening() as well:
        hook.look()
    assert well.places("promote") == [place]


def test_an_answer_that_breaks_off(store: SqlStore, receiver: Receiver) -> None:
    """A status of success counts, whatever becomes of the body behind it: the event is not sent
    for ever."""
    hook = opened(store, receiver.url)
    place = tell(store)
    receiver.answers, receiver.headers = [200], {"transfer-encoding": "chunked"}
    hook.look()
    hook.look()
    assert receiver.places("promote") == [place]
    assert (hook.state()["delivered"], hook.state()["failed"]) == (1, 0)


def test_told_in_order_and_signed(store: SqlStore, receiver: Receiver) -> None:
    """Events of the kinds that were asked for come in their order by kind, each with a signature
    that its own secret alone makes, an id, words and what happened; others do not come."""
    hook = opened(store, receiver.url)
    told = [tell(store, kind) for kind in ("promote", "rollback", "heal", "promote", "rollback")]
    hook.look()
    assert receiver.places("promote") == [told[0], told[3]]
    assert receiver.places("rollback") == [told[1], told[4]]
    assert len(receiver.got) == 4
    one = receiver.got[0]
    store_id = store.meta("store_id")
    assert is_genuine(one)
    assert not is_genuine(one, secret=SECRET.replace("M", "N"))
    assert not is_genuine(replace(one, raw=one.raw.replace(b"better", b"faster")))
    assert not is_genuine(one, now=time.time() + 3600)
    assert one.headers["webhook-id"] == one.body["id"] == f"{store_id}-{told[0]}"
    assert one.body["text"] == "promoted snapshot 3: better <b>"
    assert one.body["service"] == {"store": store_id, "model": "fraud:v3"}
    assert one.body["data"] == {
        "seq": told[0], "batch": 0, "version": 3, "reason": "better <b>",
    }  # fmt: skip
    hook.look()
    assert len(receiver.got) == 4


def test_begins_with_what_happens_next(store: SqlStore, receiver: Receiver) -> None:
    """A new webhook, and a kind that it is new to, begins behind what has happened already."""
    tell(store)
    hook = opened(store, receiver.url, kinds=["promote"])
    assert receiver.got == []
    tell(store, "rollback")
    first = tell(store)
    hook.look()
    hook = opened(store, receiver.url)
    assert receiver.places("rollback") == []
    second = tell(store, "rollback")
    hook.look()
    assert (receiver.places("promote"), receiver.places("rollback")) == ([first], [second])


def test_every_kind(store: SqlStore, receiver: Receiver) -> None:
    """`*` is all kinds of events; the webhook is not told of itself, which would never end."""
    hook = opened(store, receiver.url, kinds=["*"])
    receiver.answers = [500] * FAILING_AFTER
    tell(store, "heal_asked", by="anna")
    for _ in range(FAILING_AFTER + 3):
        hook.look()
    assert [one.body["type"] for one in receiver.taken] == ["heal_asked"]
    assert happened(store, "webhook_failing") == [{"hook": "desk", "reason": "HTTP 500"}]
    assert happened(store, "webhook_recovered") == [{"hook": "desk"}]
    assert hook.state()["waiting"] == 0


def test_slack_and_pagerduty(store: SqlStore, receiver: Receiver) -> None:
    """Slack gets words in which nothing is markup; PagerDuty a trigger with its key, which the
    event that it is over resolves."""
    settings = Settings(webhooks=[
        {"name": "team", "url": receiver.url, "kinds": ["promote"], "template": "slack"},
        {"name": "night", "url": receiver.url, "kinds": ["*"], "template": "pagerduty",
         "secret": ROUTING_KEY},
    ])  # fmt: skip
    slack, pager = settings.webhooks
    event = Event("promote", {"version": 3, "reason": "a <!channel> & b"}, 1700000000.0, 7, 12)
    assert body_of(slack, event, FRAUD) == {
        "text": "*promote* · fraud:v3\npromoted snapshot 3: a &lt;!channel&gt; &amp; b"
    }
    shown = body_of(pager, event, FRAUD)
    assert (shown["routing_key"], shown["event_action"]) == (ROUTING_KEY, "trigger")
    assert shown["dedup_key"] == "ab12cd-12"
    payload = shown["payload"]
    assert payload["summary"] == "fraud:v3: promoted snapshot 3: a <!channel> & b"
    assert (payload["severity"], payload["component"], payload["class"]) == (
        "info", "fraud", "promote",
    )  # fmt: skip
    assert payload["timestamp"] == "2023-11-14T22:13:20.000+00:00"
    assert payload["custom_details"]["version"] == 3
    begun = body_of(
        pager, Event("feed_failing", {"feed": "desk", "reason": "x" * 2000}, 1.0), FRAUD
    )
    ended = body_of(pager, Event("feed_recovered", {"feed": "desk"}, 2.0), FRAUD)
    other = body_of(pager, Event("feed_failing", {"feed": "till", "reason": "x"}, 3.0), FRAUD)
    assert begun["payload"]["severity"] == "warning"
    assert len(begun["payload"]["summary"]) == 1024
    assert (begun["event_action"], ended["event_action"]) == ("trigger", "resolve")
    assert begun["dedup_key"] == ended["dedup_key"] != other["dedup_key"]
    hook = opened(store, receiver.url, template="pagerduty", secret=ROUTING_KEY)
    tell(store)
    hook.look()
    assert receiver.got[0].body["routing_key"] == ROUTING_KEY
    assert "webhook-signature" not in receiver.got[0].headers


# -- what goes wrong -------------------------------------------------------------------------------


def test_away_and_back(store: SqlStore) -> None:
    """While nothing listens, events wait in the store; when the receiver is back it gets each of
    them in order, though the runner was started anew meanwhile."""
    receiver = Receiver()
    with receiver.listening():
        hook = opened(store, receiver.url)
        sent = [tell(store)]
        hook.look()
    for _ in range(3):
        sent.append(tell(store))
        hook.look()
    assert receiver.places("promote") == sent[:1]
    state = hook.state()
    assert (state["waiting"], state["delivered"], state["failed"]) == (3, 1, 3)
    assert "Connect" in state["failing"]
    hook = opened(store, receiver.url)  # as after kill -9 of the runner
    sent.append(tell(store))
    assert hook.state()["oldest_seconds"] >= 0
    with receiver.listening():
        hook.look()
    assert receiver.places("promote") == sent
    state = hook.state()
    assert (state["waiting"], state["delivered"], state["failing"]) == (0, 5, "")
    [failing] = happened(store, "webhook_failing")
    assert failing["hook"] == "desk"
    assert happened(store, "webhook_recovered") == [{"hook": "desk"}]


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_killed_anywhere(store: SqlStore, receiver: Receiver, at: int) -> None:
    """Killed before any statement or commit, the next runner goes on: each event comes at least
    once and in order, and one that comes again has the id that it had."""
    hook = opened(store, receiver.url)
    sent = [tell(store), tell(store)]
    with dying(store, at):
        hook.look()
    opened(store, receiver.url)
    ids = {one.headers["webhook-id"]: one.place for one in receiver.taken}
    assert sorted(ids.values()) == sent
    came = receiver.places("promote")
    assert came == sorted(came)
    assert len(came) <= len(sent) + 1


def test_tries_rarer_and_rarer(
    store: SqlStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause doubles with each failure up to a bound, a receiver may ask for a longer one, and
    it is still to come after a restart."""
    monkeypatch.setattr(hook_module, "FIRST_RETRY", 1.0)
    monkeypatch.setattr(hook_module, "LONGEST_RETRY", 60.0)
    now = [time.time()]
    monkeypatch.setattr(hook_module.time, "time", lambda: now[0])

    def waits(seconds: float) -> None:
        """The next attempt is then, and not before."""
        count = len(receiver.got)
        now[0] += seconds - 0.01
        opened(store, receiver.url)
        assert len(receiver.got) == count
        now[0] += 0.02
        opened(store, receiver.url)
        assert len(receiver.got) == count + 1

    hook = opened(store, receiver.url)
    tell(store, at=now[0])
    receiver.answers = [503] * 11
    receiver.headers["retry-after"] = "20"
    hook.look()
    del receiver.headers["retry-after"]
    for seconds in (20, 2, 4, 8, 16, 32, 60, 60, 60):
        waits(seconds)
    receiver.headers["retry-after"] = "9000"
    waits(60)
    waits(300)
    assert len(receiver.taken) == 1


def test_a_kind_that_is_refused_holds_up_no_other(store: SqlStore, receiver: Receiver) -> None:
    """Where the receiver fails on one kind, the others go on, and it is known that it fails."""
    hook = opened(store, receiver.url)
    receiver.refused = {"promote"}
    refused = [tell(store), tell(store)]
    others = [tell(store, "rollback") for _ in range(3)]
    for _ in range(4):
        hook.look()
    assert receiver.places("rollback") == others
    assert hook.state()["failing"] == "HTTP 500"
    receiver.refused = set()
    hook.look()
    assert receiver.places("promote") == refused
    assert hook.state()["failing"] == ""


def test_dead_letters(store: SqlStore, receiver: Receiver) -> None:
    """An event that its receiver has not taken by the limit is given up with an event of its own
    and an entry in the audit; the next one follows, and one that is taken ends the failure."""
    hook = opened(store, receiver.url, hours=1.0)
    receiver.answers = [500] * LEAST_ATTEMPTS
    old = tell(store, at=time.time() - 7200)
    for _ in range(LEAST_ATTEMPTS):
        hook.look()
    [gone] = happened(store, "webhook_gave_up")
    assert gone == {
        "hook": "desk", "event": old, "kind": "promote", "attempts": LEAST_ATTEMPTS,
        "reason": "HTTP 500",
    }  # fmt: skip
    state = hook.state()
    assert (state["given_up"], state["waiting"], state["failing"]) == (1, 0, "HTTP 500")
    newer = tell(store, "rollback")
    hook.look()
    assert receiver.places("rollback") == [newer]
    assert hook.state()["failing"] == ""
    assert [json.loads(e.detail) for e in store.audit()] == [
        {"hook": "desk", "kind": "promote", "event": old, "given_up": True, "reason": "HTTP 500",
         "attempts": LEAST_ATTEMPTS},
        {"hook": "desk", "kind": "rollback", "event": newer, "status": 204, "attempts": 1},
    ]  # fmt: skip
    assert store.verify_audit().broken == 0


def test_events_that_retention_took(store: SqlStore) -> None:
    """What retention removes while a receiver is away is told once, with how many of each kind,
    when the receiver is back or none waits any more; until then it is in the status, though the
    runner starts anew."""
    receiver = Receiver()
    with receiver.listening():
        hook = opened(store, receiver.url)
        tell(store)
        hook.look()
    for _ in range(FAILING_AFTER):
        tell(store, "promote")
        tell(store, "rollback")
        hook.look()
    for _ in range(5):
        tell(store)
    while store.retire_events(0.0, 3, limit=2):
        pass
    hook = opened(store, receiver.url)
    hook.look()
    assert happened(store, "webhook_lost") == [
        {"hook": "desk", "events": FAILING_AFTER, "kinds": {"rollback": FAILING_AFTER}}
    ]
    waiting = hook.state()["waiting"]
    lost = hook.state()["lost"]
    assert waiting + lost == FAILING_AFTER + 5
    with receiver.listening():
        hook.look()
        hook.look()
        assert len(receiver.places("promote")) == 1 + waiting
        _, second = happened(store, "webhook_lost")
        assert second == {"hook": "desk", "events": lost, "kinds": {"promote": lost}}
        opened(store, receiver.url).look()
    state = hook.state()
    assert (state["lost"], state["given_up"], state["failing"]) == (0, lost + FAILING_AFTER, "")
    assert len(happened(store, "webhook_lost")) == 2
    assert store.verify_audit().broken == 0


def test_what_was_sent_is_not_lost(store: SqlStore, receiver: Receiver) -> None:
    """Retention of events that the receiver has, or that are of other kinds, is told to nobody."""
    hook = opened(store, receiver.url)
    for kind in ("promote", "heal", "rollback"):
        tell(store, kind)
    hook.look()
    tell(store, "heal")
    assert store.retire_events(0.0, 0, limit=10) == 4
    tell(store)
    hook.look()
    assert (hook.state()["lost"], happened(store, "webhook_lost")) == (0, [])


def test_young_events_are_not_given_up(store: SqlStore, receiver: Receiver) -> None:
    """However often it fails, an event is tried until the limit."""
    hook = opened(store, receiver.url, hours=1.0)
    receiver.answers = [500] * 20
    place = tell(store)
    for _ in range(21):
        hook.look()
    assert receiver.places("promote") == [place]
    assert happened(store, "webhook_gave_up") == []


def test_a_redirect_is_not_followed(store: SqlStore, receiver: Receiver) -> None:
    """A receiver cannot send the service on to an address that only that reaches."""
    hook = opened(store, receiver.url)
    receiver.answers, receiver.headers = [302] * 3, {"location": "/inside"}
    tell(store)
    for _ in range(3):
        hook.look()
    assert {one.path for one in receiver.got} == {"/hooks/very-secret-path"}
    assert hook.state()["failing"] == "HTTP 302, a redirect, which is not followed"


def test_only_the_leader_tells(store: SqlStore, receiver: Receiver) -> None:
    """A runner without the lease sends nothing, and one that has lost it moves no place."""
    opened(store, receiver.url, token=lambda: None)
    hook = opened(store, receiver.url)
    place = tell(store)
    follower = opened(store, receiver.url, token=lambda: None)
    follower.look()
    assert receiver.got == []
    store.release_lease("a")
    assert store.acquire_lease("b", 60) == 2
    hook.look()  # it does not know yet; what it sends comes again
    assert store.audit() == []
    opened(store, receiver.url, token=lambda: 2)
    assert receiver.places("promote") == [place, place]
    assert len({one.headers["webhook-id"] for one in receiver.got}) == 1
    assert len(store.audit()) == 1


def test_a_hanging_receiver_holds_up_itself_alone(store: SqlStore, receiver: Receiver) -> None:
    """While one receiver hangs the others are told, and the runner may stop."""
    hanging = Receiver(hangs=threading.Event())
    with hanging.listening():
        given = [{"name": name, "url": url, "kinds": KINDS}
                 for name, url in (("stuck", hanging.url), ("desk", receiver.url))]  # fmt: skip
        hooks = Webhooks(store, Settings(webhooks=given), lambda: 1)
        hooks.serve("fraud:v3")
        hooks.start()
        for hook in hooks._hooks:
            wait_for(lambda hook=hook: hook._looked_at >= 0, "the first look")
        place = tell(store)
        wait_for(lambda: receiver.places("promote") == [place], "the other is told")
        wait_for(lambda: hanging.got, "the one that hangs is asked")
        began = time.monotonic()
        hooks.stop()
        assert time.monotonic() - began < hook_module.STOP_SECONDS + 1
        assert hanging.hangs is not None
        hanging.hangs.set()


def test_nothing_secret_is_told(
    store: SqlStore, receiver: Receiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Neither the secret nor the path of the URL, which may be one, is logged, shown or stored."""
    caplog.set_level(logging.DEBUG, "bento_selfheal")
    caplog.set_level(logging.INFO)
    hook = opened(store, receiver.url)
    receiver.answers = [500] * 3
    tell(store)
    for _ in range(4):
        hook.look()
    with Receiver().listening() as other:
        gone = other.url
    hook = opened(store, gone)
    tell(store)
    hook.look()
    with store._db.read() as c:
        kept = [str(row) for table in ("events", "audit", "webhook_places", "meta")
                for row in c.execute(text(f"select * from {table}"))]  # fmt: skip  # noqa: S608
    seen = caplog.text + json.dumps(hook.state()) + "".join(kept) + repr(hook._hook)
    assert "webhook desk failed" in caplog.text
    assert "very-secret-path" not in seen
    assert SECRET not in seen
    assert SECRET.removeprefix("whsec_") not in seen
