"""Inputs in the log: with the predictions they were made from, whole, and within their bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from alembic import command
from sqlalchemy import create_engine, text

from bento_selfheal.core.records import FeedbackRecord, LoggedInput, PredictionRecord, RawInput
from bento_selfheal.errors import StoreError
from bento_selfheal.store import SqlStore, inputs
from bento_selfheal.store.inputs import ROW_BYTES
from bento_selfheal.store.schema import revisions

FOREVER = 1e12
BODY = b"\0\xff\x89PNG'; drop table inputs; --"


@pytest.fixture
def url(fresh: Callable[[], str]) -> str:
    return fresh()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    store.create()
    yield store
    store.close()


def request(number: int, *bodies: bytes, time: float | None = None) -> PredictionRecord:
    rows = max(1, len(bodies))
    return PredictionRecord(
        number.to_bytes(12, "big"), np.zeros((rows, 3), np.float32), np.zeros(rows, np.float32), 1,
        float(number) if time is None else time,
        inputs=tuple(RawInput("image/png", body) for body in bodies),
    )  # fmt: skip


def label(number: int, row: int = 0, given: int = 1, **more: object) -> FeedbackRecord:
    return FeedbackRecord(number.to_bytes(12, "big"), row, given, 50.0, **more)  # type: ignore[arg-type]


def labelled(store: SqlStore, since: float = 0.0, until: float = FOREVER) -> list[LoggedInput]:
    return store.labelled_inputs(0, since, until, 1000)[0]


def held(store: SqlStore) -> list[bytes]:
    """The bodies of all inputs, oldest first."""
    bodies = (store.input_body(seq) for seq in range(1, 200))
    return [body for body in bodies if body is not None]


def test_kept_as_they_came(store: SqlStore) -> None:
    """Every byte comes back, an empty body too, and only what has a label is listed."""
    store.append_predictions([request(1, BODY, b""), request(2), request(3, b"c")])
    store.add_feedback([label(1, 0), label(1, 1, 0, source="a"), label(2)])
    found = labelled(store)
    assert [(i.request[-1], i.row, i.label, i.source, i.media_type, i.time) for i in found] == [
        (1, 0, 1, None, "image/png", 1.0), (1, 1, 0, "a", "image/png", 1.0),
    ]  # fmt: skip
    assert [store.input_body(i.seq) for i in found] == [BODY, b""]
    assert store.input_body(99) is None
    assert held(store) == [BODY, b"", b"c"]
    assert store.read_log(0, 0)[0].inputs == ()  # type: ignore[union-attr]


def test_one_commit(store: SqlStore) -> None:
    """Where the predictions are not written, neither are their inputs."""
    store.append_predictions([request(1, b"a")])
    with pytest.raises(StoreError):
        store.append_predictions([request(2, b"b"), request(1, b"again")])
    assert held(store) == [b"a"]
    assert store.logged_inputs() == ROW_BYTES + 1


def test_newest_label_counts(store: SqlStore) -> None:
    """A row that was corrected twice is listed once, with its last label."""
    store.append_predictions([request(1, b"a", b"b")])
    store.add_feedback([label(1, given=0), label(1, 1, given=0)])
    for given in (1, 2):
        store.add_feedback([label(1, given=given, corrects=True, source=f"desk-{given}")])
    assert [(i.row, i.label, i.source) for i in labelled(store)] == [
        (0, 2, "desk-2"), (1, 0, None),
    ]  # fmt: skip


def test_pages(store: SqlStore) -> None:
    """Pages go on past inputs without a label, and end."""
    store.append_predictions([request(n, b"x", b"y") for n in range(1, 8)])
    store.add_feedback([label(n, row) for n in (1, 5, 7) for row in (0, 1)])
    place, rows, pages = 0, [], 0
    while True:
        page, following = store.labelled_inputs(place, 0.0, FOREVER, 3)
        rows += page
        if following == place:
            break
        place, pages = following, pages + 1
    assert [i.request[-1] for i in rows] == [1, 1, 5, 5, 7, 7]
    assert (pages, place) == (5, 14)


def test_a_period(store: SqlStore) -> None:
    """From the start on, up to the end and not with it."""
    store.append_predictions([request(n, b"x") for n in range(1, 8)])
    store.add_feedback([label(n) for n in range(1, 8)])
    assert [i.request[-1] for i in labelled(store, 3.0, 6.0)] == [3, 4, 5]


def test_retention_by_age(store: SqlStore) -> None:
    """The oldest go a few at a time; all may go, and places are never given twice."""
    store.append_predictions([request(n, b"x") for n in range(1, 8)])
    assert store.retire_inputs(5.0, 10**9, limit=3) == 3
    assert store.retire_inputs(5.0, 10**9, limit=3) == 1
    assert store.retire_inputs(5.0, 10**9, limit=3) == 0
    assert store.logged_inputs() == 3 * (ROW_BYTES + 1)
    assert store.retire_inputs(FOREVER, 10**9, limit=100) == 3
    assert store.logged_inputs() == 0
    store.append_predictions([request(8, b"new")])
    assert store.logged_inputs() == ROW_BYTES + 3
    assert [store.input_body(seq) for seq in (1, 7, 8)] == [None, None, b"new"]
    assert len(store.read_log(0, 0)) == 8  # predictions stay


def test_retention_by_size(store: SqlStore) -> None:
    """They go until what stays fits; where nothing may stay, nothing does."""
    size = ROW_BYTES + 100
    store.append_predictions([request(n, b"x" * 100) for n in range(1, 8)])
    assert store.retire_inputs(0.0, 3 * size + 1, limit=100) == 4
    assert store.logged_inputs() == 3 * size
    assert store.retire_inputs(0.0, 3 * size, limit=100) == 0
    assert store.retire_inputs(0.0, -5, limit=100) == 3
    assert held(store) == []


def test_a_step_of_retention_is_small(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large inputs are, one step deletes at least one, and not many bytes more."""
    monkeypatch.setattr(inputs, "STEP_BYTES", 1000)
    store.append_predictions([request(n, b"x" * 400) for n in range(1, 6)])
    store.append_predictions([request(6, b"x" * 5000), request(7, b"x" * 5000)])
    steps = [store.retire_inputs(FOREVER, 10**9, limit=100) for _ in range(5)]
    assert steps == [3, 2, 1, 1, 0]


def test_store_of_before_inputs(url: str) -> None:
    """A store of the release before is refused by who only reads, migrated with what it holds, and
    takes inputs from then on."""
    store, engine = SqlStore(url), create_engine(url)
    with engine.begin() as c:
        config, _ = revisions(c)
        command.upgrade(config, "0006")
        c.execute(text("insert into meta values ('secret', 'ab'), ('store_id', 'f00')"))
    engine.dispose()
    with pytest.raises(StoreError, match="schema 0006"):
        store.check()
    store.create()
    store.check()
    assert (store.meta("secret"), store.logged_inputs()) == ("ab", 0)
    store.append_predictions([request(1, BODY), replace(request(2), inputs=())])
    assert held(store) == [BODY]
    store.close()
