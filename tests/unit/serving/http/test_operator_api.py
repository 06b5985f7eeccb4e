"""What operators send over HTTP: refused by field where it is wrong, and never a failure."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.candidates.candidate import Candidate, CandidateState
from bento_selfheal.core.records import Phase, Promotion, PromotionKind, Snapshot
from bento_selfheal.serving.http.auth import ASKED_BY
from bento_selfheal.serving.http.operator_api import operations_app
from bento_selfheal.serving.http.request_metrics import route_of
from bento_selfheal.serving.operations import Operations
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.telemetry.spans import Telemetry


def any_verifies(tag: str, sha256: str) -> None:
    """Stands for a registry in which every snapshot verifies."""


def ask(store: SqlStore, method: str, path: str, **more: Any) -> httpx.Response:
    operations = Operations(store, any_verifies, dict, Telemetry(), None, None, [0, 1])  # type: ignore[arg-type]

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=operations_app(lambda: operations))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.request(method, path, **more)

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/forget", b'{"source": "\\ud800"}', "source"),
        ("/forget", b'{"source": "a\\u0000b"}', "source"),
        ("/forget", b'{"source": ""}', "source"),
        ("/forget", b'{"source": ["\\ud800"]}', "source"),
        ("/forget", b'{"\\ud800": 1}', "body"),
        ("/rollback", b'{"\\ud800": 1}', "body"),
        ("/rollback", b'{"version": "\\udfff"}', "version"),
        ("/rollback", b'{"version": 1e400}', "version"),
        ("/rollback", b'"\\ud800"', "body"),
        ("/erase", b'{"key": "\\ud800"}', "key"),
        ("/erase", b'{"key": "a\\u0000b"}', "key"),
        ("/erase", b'{"prediction_id": "\\ud800"}', "prediction_id"),
        ("/erase", b'{"key": "a", "token": "\\ud800"}', "token"),
        ("/erase", b'{"key": "a", "prediction_id": "b.0"}', "give one of"),
        ("/erase", b"{}", "give one of"),
        ("/heal", b'"\\ud800"', ""),
        ("/candidates/begin", b'{"tag": "a\\u0000b"}', "tag"),
        ("/candidates/begin", b'{"tag": "a:1", "ramp": [0, 101]}', "ramp"),
        ("/candidates/begin", b'{"tag": "a:1", "ramp": [NaN, 100]}', "ramp"),
        ("/candidates/begin", b'{"tag": "a:1", "min_labels": 0}', "min_labels"),
        ("/candidates/withdraw", b'{"tag": ""}', "tag"),
        ("/candidates/promote", b"{}", "tag"),
    ],
)
def test_text_that_nothing_can_hold(store: SqlStore, path: str, body: bytes, named: str) -> None:
    """A lone surrogate or a NUL, as a value or a name, is a 4xx that names the field."""
    headers = {"content-type": "application/json"}
    response = ask(store, "POST", path, content=body, headers=headers)
    if not named:
        assert response.status_code == 200  # it takes no body
        return
    assert response.status_code == 422
    assert named in response.json()["error"]
    assert response.json()["detail"][0]["loc"][0] == "body"


@pytest.mark.parametrize("query", ["since=%ED%A0%80", "since=nan", "limit=%00", "after=1e3"])
def test_bad_query(store: SqlStore, query: str) -> None:
    """A query parameter that is no number is a 4xx that names it."""
    response = ask(store, "GET", f"/history?{query}")
    assert response.status_code == 422
    assert response.json()["error"].startswith(query.partition("=")[0])


@pytest.mark.parametrize("source", ["[/red]", "\x1b[31m", "🦊", "a" * 200])
def test_odd_sources_are_kept(store: SqlStore, source: str) -> None:
    """Whatever else a source may be called, it can be forgotten under that name."""
    assert ask(store, "POST", "/forget", json={"source": source}).status_code == 200
    [command] = store.commands(0)
    assert command.argument == source


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"miss_cost": -3}, "miss_cost: Input should be greater than 0, got -3"),
        ({"capacity": "much"}, "capacity: "),
        ({"capacity": 1000}, "capacity: Input should be less than 1000, got 1000"),
        ({"rollback_f1_drop": True}, "rollback_f1_drop: Value error, a number is needed, got True"),
        ({"rollback_acc_drop": 1.5}, "rollback_acc_drop: "),
        ({"mis_cost": 3}, "mis_cost: unknown field, got 3"),
        ({"miss_cost": None}, "miss_cost: "),
        ({}, "name at least one threshold, got {}"),
        ([1], "body: "),
    ],
    ids=["low", "text", "high", "bool", "share", "unknown", "null", "none", "list"],
)
def test_bad_thresholds(store: SqlStore, body: Any, said: str) -> None:
    """A threshold that does not fit is a 4xx that names field and value, and nothing is asked."""
    response = ask(store, "POST", "/thresholds", json=body)
    assert response.status_code == 422
    assert said in response.json()["error"]
    assert store.commands(0) == []
    assert store.audit() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/thresholds", b'{"miss_cost": ' + b"9" * 5000 + b"}", 400),
        ("POST", "/erase", b'{"key": "\xff"}', 400),
        ("DELETE", "/erase", b"", 405),
        ("GET", "/nowhere", b"", 404),
    ],
    ids=["number", "utf-8", "method", "path"],
)
def test_every_refusal_has_one_shape(
    store: SqlStore, method: str, path: str, body: bytes, status: int
) -> None:
    """What does not even reach an endpoint is answered as every other refusal is."""
    headers = {"content-type": "application/json"}
    response = ask(store, method, path, content=body, headers=headers)
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)


def test_a_withdrawal_stands_whatever_the_runner_does(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate that the runner moves to its next step at that moment is withdrawn all the same;
    asked for again, there is none."""
    store.add_candidate(Candidate("a:1"))
    move, steps = store.move_candidate, iter([1, 2])

    def moved(known: Candidate, state: CandidateState, step: int, *more: Any, **by: Any) -> bool:
        if (next_step := next(steps, None)) is not None:
            assert move(known, CandidateState.RUNNING, next_step, "no harm")
        return move(known, state, step, *more, **by)

    monkeypatch.setattr(store, "move_candidate", moved)
    answer = ask(store, "POST", "/candidates/withdraw", json={"tag": "a:1"})
    assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    assert [(c.state, c.step) for c in store.candidates()] == [(CandidateState.WITHDRAWN, 2)]
    assert ask(store, "POST", "/candidates/withdraw", json={"tag": "a:1"}).status_code == 409


def test_a_candidate_is_shown_once(store: SqlStore) -> None:
    """The evidence about a candidate is in its own entry of the status, and nowhere else; promoted
    twice by hand, it has won once."""
    begun = store.add_candidate(Candidate("a:1"))
    store.begin_status({"trials": {str(begun.id): {"labels": 7}}})
    status = ask(store, "GET", "/status").json()
    assert [c["evidence"] for c in status["candidates"]] == [{"labels": 7}]
    assert "trials" not in status
    for _ in range(2):
        won = ask(store, "POST", "/candidates/promote", json={"tag": "a:1"})
        assert (won.status_code, won.json()["state"]) == (200, "won")
    assert [e.kind for e in store.events()] == ["candidate_begun", "candidate_won"]


def test_a_candidate_that_is_being_deployed(store: SqlStore) -> None:
    """Nobody withdraws what the runner is putting into service: it would serve all the same."""
    store.add_candidate(Candidate("a:1"))
    assert ask(store, "POST", "/candidates/promote", json={"tag": "a:1"}).status_code == 200
    refused = ask(store, "POST", "/candidates/withdraw", json={"tag": "a:1"})
    assert refused.status_code == 409
    assert "tag: a:1 has won and is being deployed" in refused.json()["error"]
    assert [c.state for c in store.candidates()] == [CandidateState.WON]


def test_thresholds_are_asked_for(store: SqlStore) -> None:
    """What is given goes to the runner with the name of the token, and into the audit; the longest
    values fit."""
    odd = 0.12345678901234567e-7
    long = dict.fromkeys(Thresholds.model_fields, odd)
    token = ASKED_BY.set("anna")
    try:
        for body in ({"miss_cost": 5, "capacity": None}, long):
            assert ask(store, "POST", "/thresholds", json=body).status_code == 200
    finally:
        ASKED_BY.reset(token)
    first, second = store.commands(0)
    assert (first.kind, first.by) == ("thresholds", "anna")
    assert json.loads(first.argument or "") == {"miss_cost": 5.0, "capacity": None}
    assert json.loads(second.argument or "") == long
    assert len(second.argument or "") <= 200
    assert [(e.act, e.by, e.role) for e in store.audit()] == [("thresholds", "anna", "operate")] * 2
    assert json.loads(store.audit()[0].detail) == {"miss_cost": 5.0, "capacity": None}


def test_each_endpoint_is_counted_by_itself(store: SqlStore) -> None:
    """BentoML's metrics and its API page see each of the operators' endpoints under its path."""
    operations = Operations(store, any_verifies, dict, Telemetry(), None, None, [0, 1])  # type: ignore[arg-type]
    app = operations_app(lambda: operations)
    for path, methods in app.openapi()["paths"].items():
        [method] = methods
        scope = {"type": "http", "method": method.upper(), "path": path, "headers": []}
        assert route_of(app.routes, scope) == path


def served(store: SqlStore, *versions: int, kept: tuple[int, ...] = ()) -> None:
    """A service whose snapshot 1 is clean, and in which these have served, one after the other."""
    store.begin_status({})
    token = store.acquire_lease("one", 60)
    assert token is not None
    snapshots = [
        Snapshot(v, f"m:{v}", Phase.POST if v > 1 else Phase.CLEAN, "ab", 1, v, "why", 9.0)
        for v in sorted({*versions, *kept})
    ]
    # A snapshot that never served, and did better on a few labels than all others.
    snapshots.append(Snapshot(99, "m:99", Phase.POST, "ab", 1, 3, "why", 9.0, 1.0, 1.0, 25))
    promotions = [
        Promotion(PromotionKind.ROLLBACK if v == 1 else PromotionKind.PROMOTE, v, f"m:{v}", "ab",
                  "why", 9.0)
        for v in versions
    ]  # fmt: skip
    step = StepRecord(b"", {"labelled_batches": 7}, snapshots, promotions=promotions)
    store.commit(token, step)


def test_rollback_goes_back(store: SqlStore) -> None:
    """Without a version, each rollback goes one further back, to what has served and is kept,
    never on to a snapshot that was not promoted; the clean one is the last."""
    served(store, 1, 5, 8, 9)
    marked = [s["version"] for s in ask(store, "GET", "/snapshots").json() if s["previous"]]
    assert marked == [8]
    versions = [ask(store, "POST", "/rollback").json()["version"] for _ in range(3)]
    assert versions == [8, 5, 1]
    refused = ask(store, "POST", "/rollback")
    assert refused.status_code == 409
    assert "nothing older to go back to: snapshot 1 serves" in refused.json()["error"]


def test_rollback_names_its_batch(store: SqlStore) -> None:
    """An operator's rollback is an event at the labelled batch that the service has come to."""
    served(store, 1, 5)
    ask(store, "POST", "/rollback")
    [event] = store.events()
    assert (event.kind, event.batch) == ("rollback", 7)


def test_rollback_passes_over_what_was_undone(store: SqlStore) -> None:
    """What was rolled back from is not gone back to; without an older one it is the clean one."""
    served(store, 5, 8, kept=(1,))
    assert ask(store, "POST", "/rollback").json()["version"] == 5
    assert ask(store, "POST", "/rollback").json()["version"] == 1
    again = ask(store, "POST", "/rollback", json={"version": 8}).json()
    assert again["version"] == 8
    assert ask(store, "POST", "/rollback").json()["version"] == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [("", 200), ("page.js", 200), ("page.py", 404), ("__init__.py", 404), ("../page.py", 404)],
)
def test_page(store: SqlStore, path: str, status: int) -> None:
    """The page's own files are served, and nothing else of the package."""
    response = ask(store, "GET", f"/selfheal/{path}")
    assert response.status_code == status
    assert status != 200 or "default-src 'self'" in response.headers["Content-Security-Policy"]


def test_a_rollback_is_in_the_audit(store: SqlStore) -> None:
    """A rollback is kept with who asked for it, from what to what; one that is refused is not."""
    served(store, 1, 2, kept=(1, 2))
    before = len(store.audit())
    assert ask(store, "POST", "/rollback", json={"version": 7}).status_code == 409
    assert len(store.audit()) == before
    assert ask(store, "POST", "/rollback", json={"version": 1}).status_code == 200
    [entry] = store.audit(after=before)
    assert (entry.act, entry.by, entry.role) == ("rollback", "operator", "operate")
    detail = json.loads(entry.detail)
    assert (detail["version"], detail["from"]) == (1, 2)


def test_classes_by_their_digest(store: SqlStore) -> None:
    """The classes of now, or a 404 where others are meant."""
    told = ask(store, "GET", "/classes").json()
    assert told["classes"] == [0, 1]
    assert ask(store, "GET", "/classes", params={"digest": told["digest"]}).json() == told
    other = ask(store, "GET", "/classes", params={"digest": "another"})
    assert other.status_code == 404
    assert other.json()["error"].startswith("digest: 'another' is not that of")
