"""The store, on real SQLite files and a real PostgreSQL: what it says is kept is kept, once,
whole, and in one order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import Postgres
from sqlalchemy import create_engine, func, select, text

from bento_selfheal.core.decision import serving_point
from bento_selfheal.core.records import (
    Event,
    FeedbackOutcome,
    FeedbackRecord,
    Measurement,
    OperatingPoint,
    Phase,
    PointKind,
    PredictionRecord,
    Promotion,
    PromotionKind,
    Snapshot,
)
from bento_selfheal.errors import (
    CommandError,
    IllegalTransition,
    LeaseLost,
    PromotionMoved,
    StoreError,
)
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.store import tables as t
from bento_selfheal.store.schema import revisions

ACCEPTED, KNOWN, CONFLICT = (
    FeedbackOutcome.ACCEPTED,
    FeedbackOutcome.KNOWN,
    FeedbackOutcome.CONFLICT,
)


@pytest.fixture
def url(fresh: Callable[[], str]) -> str:
    return fresh()


def open_at(url: str) -> SqlStore:
    store = SqlStore(url)
    store.create()
    return store


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = open_at(url)
    store.begin_status({"state": "HEALTHY"})
    yield store
    store.close()


def key(number: int) -> bytes:
    return number.to_bytes(12, "big")


def prediction(number: int, rows: int = 2) -> PredictionRecord:
    """Of values that half precision cannot hold."""
    features = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) + number + np.float32(0.1)
    return PredictionRecord(key(number), features, np.full(rows, 0.3, np.float32), 4, 12.5)


def label(number: int, given: int = 1, *, row: int = 0, **more: Any) -> FeedbackRecord:
    return FeedbackRecord(key(number), row, given, 13.5, **more)


def read_all(store: SqlStore) -> list[PredictionRecord | FeedbackRecord]:
    return store.read_log(0, 0, limit=100_000)


def labels_of(store: SqlStore) -> list[FeedbackRecord]:
    return [e for e in read_all(store) if isinstance(e, FeedbackRecord)]


# -- feedback --------------------------------------------------------------------------------


def test_counted_once(store: SqlStore) -> None:
    """A label counts once, however often it is sent: in one request, again, and again later."""
    assert store.add_feedback([label(1), label(1), label(1, row=1)]).outcomes == [
        ACCEPTED, KNOWN, ACCEPTED,
    ]  # fmt: skip
    for _ in range(3):
        assert store.add_feedback([label(1), label(1, row=1)]).outcomes == [KNOWN, KNOWN]
    assert [(e.row, e.label) for e in labels_of(store)] == [(0, 1), (1, 1)]


def test_conflict(store: SqlStore) -> None:
    """A second, different label is refused with the label that is kept, by the item's place."""
    store.add_feedback([label(1, 1)])
    result = store.add_feedback([label(2, 0), label(1, 0), label(2, 1)])
    assert result.outcomes == [ACCEPTED, CONFLICT, CONFLICT]
    assert result.kept == {1: 1, 2: 0}
    assert [(e.request, e.label) for e in labels_of(store)] == [(key(1), 1), (key(2), 0)]


def test_corrects(store: SqlStore) -> None:
    """A label that says it corrects becomes a new revision; from then on it is the kept one."""
    store.add_feedback([label(1, 1)])
    assert store.add_feedback([label(1, 0, corrects=True)]).outcomes == [ACCEPTED]
    assert store.add_feedback([label(1, 0, corrects=True)]).outcomes == [KNOWN]
    late = store.add_feedback([label(1, 1)])
    assert (late.outcomes, late.kept) == ([CONFLICT], {0: 0})
    assert store.add_feedback([label(1, 1, corrects=True)]).outcomes == [ACCEPTED]
    assert [(e.label, e.corrects) for e in labels_of(store)] == [(1, False), (0, True), (1, True)]


def test_corrects_nothing(store: SqlStore) -> None:
    """A correction of a row without a label is its first label."""
    assert store.add_feedback([label(1, 0, corrects=True)]).outcomes == [ACCEPTED]
    assert [e.corrects for e in labels_of(store)] == [False]


def test_features_only(store: SqlStore) -> None:
    """A row that comes with its label keeps its features, source and trace to the bit."""
    features = np.asarray([0.1, -3e38, 1e-45], dtype=np.float32)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    store.add_feedback([label(9, 1, features=features, source="lab", trace=trace)])
    [kept] = labels_of(store)
    assert kept.features is not None
    assert kept.features.tobytes() == features.tobytes()
    assert (kept.source, kept.trace, kept.time, kept.label) == ("lab", trace, 13.5, 1)


def test_predictions_survive_to_the_bit(store: SqlStore, url: str) -> None:
    """A logged request reads back as it was answered, in the same and in another process's
    store."""
    store.append_predictions([prediction(1), prediction(2, rows=1)])
    other = open_at(url)
    for one in (store, other):
        first, second = (e for e in read_all(one) if isinstance(e, PredictionRecord))
        assert first.features.tobytes() == prediction(1).features.tobytes()
        assert first.features.shape == (2, 3)
        assert first.probabilities.tobytes() == prediction(1).probabilities.tobytes()
        assert (first.version, first.time, first.seq, second.seq) == (4, 12.5, 1, 2)
        found = one.predictions_of({key(2), key(7)})
        assert list(found) == [key(2)]
        assert found[key(2)].features.shape == (1, 3)
        assert one.ends() == (2, 0, 0)
    other.close()


def test_many_requests_at_once(store: SqlStore) -> None:
    """Feedback over more requests than one SQL statement may name is kept whole."""
    many = [label(n) for n in range(1, 1300)]
    assert set(store.add_feedback(many).outcomes) == {ACCEPTED}
    assert set(store.add_feedback(many).outcomes) == {KNOWN}
    store.append_predictions([prediction(n) for n in range(1, 1300)])
    assert len(store.predictions_of({key(n) for n in range(1, 1300)})) == 1299


WRITER = """
import sys, random
from bento_selfheal.core.records import FeedbackRecord
from bento_selfheal.store import SqlStore
store = SqlStore(sys.argv[1])
keys = list(range(200))
random.Random(sys.argv[2]).shuffle(keys)
print("ready", flush=True)
sys.stdin.readline()
accepted = 0
for at in range(0, 200, 8):
    records = [FeedbackRecord(k.to_bytes(12, "big"), 0, k % 2, 1.0) for k in keys[at:at + 8]]
    accepted += sum(o.value == "accepted" for o in store.add_feedback(records).outcomes)
print(accepted)
"""


def test_processes_at_once(store: SqlStore) -> None:
    """Three processes that send the same labels at once lose none and double none."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, store.url, str(i)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for i in range(3)
    ]  # fmt: skip
    for w in writers:
        assert w.stdout is not None
        assert w.stdout.readline() == "ready\n"
    for w in writers:
        assert w.stdin is not None
        w.stdin.write("go\n")
        w.stdin.flush()
    accepted = [int(w.communicate(timeout=60)[0]) for w in writers]
    assert [w.returncode for w in writers] == [0, 0, 0]
    assert sum(accepted) == 200
    assert sorted(e.request for e in labels_of(store)) == [key(k) for k in range(200)]


def test_threads_at_once(url: str) -> None:
    """Predictions and labels written by many stores at once all arrive; no one sees a database
    that is locked."""
    stores = [open_at(url) for _ in range(4)]
    failed: list[BaseException] = []

    def work(number: int, store: SqlStore) -> None:
        try:
            for i in range(20):
                store.append_predictions([prediction(1000 * number + i + 1)])
                store.add_feedback([label(1000 * number + i + 1), label(7_000_000 + i)])
        except BaseException as error:  # pragma: no cover
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n, s)) for n, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert stores[0].ends() == (80, 100, 0)
    for store in stores:
        store.close()


# -- one common order ------------------------------------------------------------------------

writes = st.tuples(st.sampled_from("pf"), st.integers(1, 40))
reads = st.tuples(st.just("read"), st.integers(1, 5))


def place(entry: PredictionRecord | FeedbackRecord) -> tuple[str, int]:
    return type(entry).__name__, entry.seq


class Reader:
    """Reads on from its cursors, as the runner does."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.seen = store, [0, 0]
        self.order: list[tuple[str, int]] = []

    def read(self, limit: int) -> int:
        entries = self.store.read_log(*self.seen, limit=limit)
        for entry in entries:
            self.seen[isinstance(entry, FeedbackRecord)] = entry.seq
            self.order.append(place(entry))
        return len(entries)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every call is a new store
)
@given(steps=st.lists(writes | reads, max_size=20), tail=st.integers(1, 5))
def test_common_order(fresh: Callable[[], str], steps: list[tuple[str, int]], tail: int) -> None:
    """However reads are chunked and writes come between, what is read is the same order of
    both logs, each entry once, each label behind what was logged before it."""
    store = open_at(fresh())
    reader, done, labels = Reader(store), 0, 0
    expected: list[tuple[str, int]] = []
    for what, n in steps:
        if what == "read":
            reader.read(n)
        elif what == "p":
            store.append_predictions([prediction(done + i + 1, rows=1) for i in range(n)])
            expected += [("PredictionRecord", done + i + 1) for i in range(n)]
            done += n
        else:
            store.add_feedback([label(10**6 + labels + i) for i in range(n)])
            expected += [("FeedbackRecord", labels + i + 1) for i in range(n)]
            labels += n
    while reader.read(tail):
        pass
    assert [place(e) for e in read_all(store)] == expected
    assert reader.order == expected
    store.close()


def test_order_under_writers(url: str) -> None:
    """What a reader took, step by step, beside six writers is the order that a replay takes: no
    place becomes visible behind a later one, in either log or between them."""
    stores = [open_at(url) for _ in range(7)]
    rounds = 25

    def write(number: int, store: SqlStore) -> None:
        for i in range(rounds):
            own = 1000 * (number + 1) + i
            if number % 2:
                store.append_predictions([prediction(own, rows=1)])
            else:
                store.add_feedback([label(own), label(own, row=1)])

    threads = [threading.Thread(target=write, args=(n, s)) for n, s in enumerate(stores[:6])]
    reader = Reader(stores[6])
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        reader.read(5)
    while reader.read(5):
        pass
    assert len(reader.order) == 3 * rounds + 6 * rounds
    assert reader.order == [place(e) for e in read_all(stores[6])]
    for store in stores:
        store.close()


def test_chunks_are_prefixes(store: SqlStore) -> None:
    """Any read is a prefix of the common order, also when labels outnumber predictions by far."""
    for i in range(6):
        store.append_predictions([prediction(i + 1)])
        store.add_feedback([label(100 * (i + 1) + j) for j in range(40)])
    whole = [place(e) for e in read_all(store)]
    for limit in (1, 2, 3, 7):
        part = [place(e) for e in store.read_log(0, 0, limit=limit)]
        assert part
        assert part == whole[: len(part)]


# -- the lease -------------------------------------------------------------------------------


def test_one_leader(store: SqlStore) -> None:
    """While a leader is alive no other may lead; it renews with the token that it has."""
    token = store.acquire_lease("one", 60)
    assert token is not None
    assert store.acquire_lease("two", 60) is None
    assert store.acquire_lease("one", 60) == token


def test_lease_runs_out(store: SqlStore) -> None:
    """A leader that stays silent is succeeded, under a higher token."""
    token = store.acquire_lease("one", 0.05)
    assert token is not None
    later = wait_for(lambda: store.acquire_lease("two", 60), "the lease to run out")
    assert later > token


STOP_INSIDE = """
import os, signal, sys
from bento_selfheal.store.connections import Connections
with Connections(sys.argv[1]).write() as c:
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_stopped_inside_a_transaction(postgres: Postgres) -> None:
    """A leader that is stopped while it writes holds nobody up for longer than its lease."""
    url = postgres.database()
    store = open_at(url)
    store.begin_status({"state": "HEALTHY"})
    command_line = [sys.executable, "-c", STOP_INSIDE, url]
    with subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) as stopped:
        try:
            stat = Path(f"/proc/{stopped.pid}/stat")
            wait_for(lambda: stat.read_text().split()[2] == "T", "the process to be stopped")
            wait_for(lambda: store.acquire_lease("two", 60), "another to lead", 10)
        finally:
            stopped.send_signal(signal.SIGCONT)
            _, said = stopped.communicate(timeout=30)
    assert "StoreError: cannot write to the store" in said
    store.close()


def test_lease_given_back(store: SqlStore) -> None:
    """A leader that stops lets a successor lead at once; nobody else can give its lease back."""
    first = store.acquire_lease("one", 60)
    store.release_lease("two")
    assert store.acquire_lease("two", 60) is None
    store.release_lease("one")
    second = store.acquire_lease("two", 60)
    assert first is not None
    assert second is not None
    assert second > first


def test_lease_needs_a_deployment(url: str) -> None:
    """Before anything was deployed there is nothing to lead."""
    fresh = open_at(url)
    with pytest.raises(StoreError, match="deploy"):
        fresh.acquire_lease("one", 60)
    fresh.close()


def snapshot(version: int) -> Snapshot:
    return Snapshot(version, f"m:{version}", Phase.POST, "ab", 1, 3, "why", 9.0)


def promotion(version: int, by: str = "runner") -> Promotion:
    return Promotion(PromotionKind.PROMOTE, version, f"m:{version}", "ab", "why", 9.0, by=by,
                     evidence={"log_e": 3.5, "thresholds": {"rollback_f1_drop": 0.08}})  # fmt: skip


def step(number: int = 1, after: int = 0, **more: Any) -> StepRecord:
    return StepRecord(
        state=str(number).encode(), status={"step": number},
        **{"snapshots": [snapshot(number)], "promotions": [promotion(number)],
           "events": [Event("heal", {"n": number}, 9.0, 3)], **more},
        after_promotion=after,
    )  # fmt: skip


def contents(store: SqlStore) -> tuple[Any, ...]:
    return (store.state(), store.status(), store.snapshots(kept_only=False),
            store.promotions(), store.events())  # fmt: skip


def led(store: SqlStore) -> int:
    token = store.acquire_lease("one", 60)
    assert token is not None
    return token


def test_step_round_trip(store: SqlStore) -> None:
    """A committed step reads back whole, and tells the place of its promotion."""
    assert store.commit(led(store), step(2)) == 1
    assert store.state() == b"2"
    assert store.status() == {"step": 2}
    assert store.snapshots() == [snapshot(2)]
    [kept] = store.promotions()
    assert (kept.evidence, kept.kind, kept.seq) == (
        promotion(2).evidence, PromotionKind.PROMOTE, 1,
    )  # fmt: skip
    assert [(e.kind, e.detail, e.batch) for e in store.events()] == [("heal", {"n": 2}, 3)]


def test_figures_are_updated(store: SqlStore) -> None:
    """A snapshot's later figures replace the earlier ones; one that was dropped is history."""
    token = led(store)
    store.commit(token, step(2))
    measured = Snapshot(**{**snapshot(2).__dict__, "f1": 0.5, "accuracy": 0.75, "rows": 40})
    store.commit(token, step(3, 1, snapshots=[measured, snapshot(3)], promotions=[]))
    assert store.snapshots() == [measured, snapshot(3)]
    store.commit(token, step(4, 1, snapshots=[], promotions=[], dropped=[2]))
    assert [s.version for s in store.snapshots()] == [3]
    assert [s.version for s in store.snapshots(kept_only=False)] == [2, 3]


def test_fenced(store: SqlStore) -> None:
    """A leader that was succeeded without noticing writes nothing, neither step nor status."""
    token = led(store)
    store.commit(token, step(2))
    store.release_lease("one")
    assert store.acquire_lease("two", 60)
    before = contents(store)
    with pytest.raises(LeaseLost):
        store.commit(token, step(3, 1))
    with pytest.raises(LeaseLost):
        store.show_status(token, {"step": 3})
    assert contents(store) == before


@pytest.mark.parametrize("more", [{}, {"promotions": []}], ids=["promotes", "promotes nothing"])
def test_promotion_moved(store: SqlStore, more: dict[str, Any]) -> None:
    """A step during which an operator changed what serves is void, whether it promotes or not:
    it was thought with another champion."""
    token = led(store)
    store.commit(token, step(2))
    store.promote(promotion(2, "operator"), Event("rollback", {}, 9.0))
    before = contents(store)
    with pytest.raises(PromotionMoved):
        store.commit(token, step(3, 1, **more))
    assert contents(store) == before
    assert store.commit(token, step(3, 2)) == 3


def test_failed_step_leaves_nothing(store: SqlStore) -> None:
    """A step whose last write fails leaves no trace of its first ones."""
    token = led(store)
    store.commit(token, step(2))
    before = contents(store)
    with pytest.raises((StoreError, TypeError)):  # by the driver it is one or the other
        store.commit(token, step(3, 1, events=[Event("heal", {"n": object()}, 9.0)]))
    assert contents(store) == before


def test_visible_whole(store: SqlStore, url: str) -> None:
    """A reader at any moment sees all of a step or nothing of it."""
    token, steps, done = led(store), 40, threading.Event()

    def write() -> None:
        try:
            for n in range(1, steps + 1):
                store.commit(token, step(n, n - 1))
        finally:
            done.set()

    writer = threading.Thread(target=write)
    engine = create_engine(url)
    query = select(
        *(select(getattr(t.runner.c, name)).scalar_subquery() for name in ("state", "status")),
        *(select(func.count()).select_from(table).scalar_subquery()
          for table in (t.promotions, t.events, t.snapshots)),
    )  # fmt: skip
    seen = set()
    writer.start()
    while True:
        last = done.is_set()
        with engine.connect() as reader:
            state, status, *counts = reader.execute(query).one()
        n = int(state or b"0")
        assert counts == [n, n, n]
        assert status.get("step", 0) == n
        seen.add(n)
        if last:
            break
    writer.join(10)
    engine.dispose()
    assert steps in seen


# -- figures over time -----------------------------------------------------------------------


def measured(at: float, *, scored: bool = False) -> Measurement:
    return Measurement(at, int(at), int(at) // 2, scored, {"z": at / 10, "state": "HEALTHY"})


def test_figures_over_time(store: SqlStore) -> None:
    """Figures come back as written; a long stretch is thinned evenly and keeps its newest."""
    written = [measured(float(n), scored=n % 10 == 0) for n in range(1, 101)]
    store.commit(led(store), step(measurements=written))
    assert [replace(m, seq=0) for m in store.measurements()] == written
    assert [m.time for m in store.measurements(since=98)] == [98, 99, 100]
    assert [m.time for m in store.measurements(after=store.measurements()[-2].seq)] == [100]
    assert [m.time for m in store.measurements(limit=10)] == list(range(10, 101, 10))
    assert all(m.scored for m in store.measurements(scored_only=True))
    assert len(store.measurements(scored_only=True)) == 10


def test_old_figures_are_thinned_then_go(store: SqlStore) -> None:
    """Figures of labels stay to the end of the time; of signals alone one in 60."""
    written = [measured(float(n), scored=n % 50 == 0) for n in range(1, 601)]
    store.commit(led(store), step(measurements=written))
    store.retire_measurements(before=100.0, thin_from=0.0, thin_to=500.0)
    kept = store.measurements()
    assert [m.time for m in kept if m.scored] == [*range(100, 601, 50)]
    thinned = [m.time for m in kept if not m.scored and m.time < 500]
    assert thinned == [n for n in range(100, 500) if n % 60 == 0 and n % 50]
    assert sum(m.time >= 500 for m in kept) == 101


# -- retention -------------------------------------------------------------------------------


def timed(number: int, when: float, rows: int = 2) -> PredictionRecord:
    return replace(prediction(number, rows), request=key_at(number, when), time=when)


def key_at(number: int, when: float) -> bytes:
    return int(when * 1000).to_bytes(6, "big") + number.to_bytes(6, "big")


def requests_of(store: SqlStore) -> list[bytes]:
    return [e.request for e in read_all(store) if isinstance(e, PredictionRecord)]


def test_retention_by_age(store: SqlStore) -> None:
    """The oldest requests go, a few at a time, and the newest stays, however old."""
    store.append_predictions([timed(n, 100.0 + n) for n in range(10)])
    assert store.retire_predictions(105.0, 10**9, limit=3) == 3
    assert store.retire_predictions(105.0, 10**9, limit=3) == 2
    assert store.retire_predictions(105.0, 10**9, limit=3) == 0
    assert requests_of(store) == [key_at(n, 100.0 + n) for n in range(5, 10)]
    assert store.retire_predictions(1e12, 10**9, limit=100) == 4
    assert requests_of(store) == [key_at(9, 109.0)]
    store.append_predictions([timed(10, 110.0)])
    assert store.ends()[0] == 11  # places go on, they are never given twice


def test_retention_by_size(store: SqlStore) -> None:
    """Requests go until what stays fits; `logged` says what is held, in bytes."""
    store.append_predictions([timed(n, 100.0 + n) for n in range(10)])
    size = 2 * 4 * 4  # rows, numbers a row, bytes a number
    assert store.logged() == (10 * size, 100.0)
    assert store.retire_predictions(0.0, 4 * size + 1, limit=100) == 6
    assert store.logged() == (4 * size, 106.0)
    store.append_predictions([timed(10, 110.0)])
    assert store.logged() == (5 * size, 106.0)


def test_what_half_precision_holds_takes_half_the_space(store: SqlStore) -> None:
    """Hidden vectors, categories and small numbers come back as they were, gaps and zeros of either
    sign too; one number that half precision would round keeps all as they are."""
    exact = np.array([[1.0, np.nan, -0.0], [2048.0, 0.5, 65504.0]], dtype=np.float32)
    for number, values in enumerate([exact, exact + np.float32(1e-3), exact * 2]):
        store.append_predictions([replace(prediction(number), features=values)])
    for kept, values in zip(read_all(store), [exact, exact + np.float32(1e-3), exact * 2],
                            strict=True):  # fmt: skip
        assert kept.features.tobytes() == values.tobytes()
    answers = 3 * 2 * 4
    assert store.logged()[0] == answers + (6 * 2 + 1) + 2 * 6 * 4


def test_label_past_retention(store: SqlStore) -> None:
    """A label whose prediction was retired is kept and named; one that is only early is not."""
    store.append_predictions([timed(n, 100.0 + n) for n in range(4)])
    store.retire_predictions(102.0, 10**9, limit=100)
    given = [FeedbackRecord(key_at(n, 100.0 + n), 0, 1, 200.0) for n in (0, 1, 2, 3, 99)]
    row = label(5, features=np.zeros(3, np.float32))
    result = store.add_feedback([*given, row])
    assert result.outcomes == [ACCEPTED] * 6
    assert result.expired == {0, 1}
    assert len(labels_of(store)) == 6
    assert store.add_feedback(given).expired == set()


def test_feedback_retention(store: SqlStore) -> None:
    """Labels go by their own age, the oldest first and a few at a time."""
    store.add_feedback([replace(label(n), time=100.0 + n) for n in range(6)])
    assert store.retire_feedback(104.0, limit=3) == 3
    assert store.retire_feedback(104.0, limit=3) == 1
    assert store.retire_feedback(104.0, limit=3) == 0
    assert [e.time for e in labels_of(store)] == [104.0, 105.0]


# -- adapters --------------------------------------------------------------------------------


def test_adapters(store: SqlStore) -> None:
    """An adapter's bytes are kept under their hash until no snapshot needs them."""
    for name in ("ab", "cd"):
        store.keep_adapter(name, name.encode() * 1000, "")
        store.keep_adapter(name, b"other bytes under the same hash are not taken", "signed")
    assert store.adapter("ab") == (b"ab" * 1000, "signed")
    assert store.adapter("ef") is None
    store.commit(led(store), step(2))  # its snapshot has the hash "ab"
    assert store.retire_adapters(0.0) == 0
    assert store.retire_adapters(1e12) == 1
    assert store.adapter("cd") is None
    assert store.adapter("ab") is not None


# -- pages and records -----------------------------------------------------------------------


def with_history(store: SqlStore, count: int, *, at: float = 0.0) -> int:
    """Steps that each promote a snapshot, note an event and drop the snapshot before."""
    token = led(store)
    for n in range(1, count + 1):
        when = {"time": at + n}
        store.commit(token, step(
            n, n - 1, dropped=[n - 1], snapshots=[replace(snapshot(n), **when)],
            promotions=[replace(promotion(n), **when)], events=[Event("heal", {"n": n}, at + n)],
        ))  # fmt: skip
    return token


def places(entries: Sequence[Event | Promotion]) -> list[int]:
    return [e.seq for e in entries]


@pytest.mark.parametrize("log", ["events", "promotions"])
def test_pages(store: SqlStore, log: str) -> None:
    """A page is the newest part of a log, or the part before a place, or the one after it; it is
    always in the order of time."""
    with_history(store, 9)
    read: Callable[..., Sequence[Event | Promotion]] = getattr(store, log)
    assert places(read()) == [*range(1, 10)]
    assert places(read(limit=3)) == [7, 8, 9]
    assert places(read(before=7, limit=3)) == [4, 5, 6]
    assert places(read(before=1)) == []
    assert places(read(after=0, limit=3)) == [1, 2, 3]
    assert places(read(after=3, limit=3)) == [4, 5, 6]
    assert places(read(after=3, before=5, limit=3)) == [4]
    assert read(after=9) == []


def test_every_snapshot_in_pages(store: SqlStore) -> None:
    """Kept or dropped, snapshots can be read part by part; the highest version is known."""
    assert store.newest_version() == 0
    token = with_history(store, 5)
    assert [s.version for s in store.snapshots(kept_only=False, after=1, limit=3)] == [2, 3, 4]
    store.commit(token, step(6, 5, snapshots=[], promotions=[], dropped=[5]))
    assert store.newest_version() == 5


def test_events_hold_any_text(store: SqlStore, url: str) -> None:
    """NULs and lone surrogates come back escaped, those that an earlier release stored as well, so
    that every answer can hold them; whole characters stay as they are."""
    store.add_event(Event("refused", {"reason": "\ud800\0\U0001f600", "n": [float("nan")]}, 1.0))
    engine = create_engine(url)
    with engine.begin() as c:
        raw = json.dumps({"error": "\udfff"})
        c.execute(text("insert into events (kind, detail, time, batch) values ('x', :d, 2, 0)"),
                  {"d": raw})  # fmt: skip
    engine.dispose()
    told = [event.detail for event in store.events()]
    assert told == [{"reason": "\\ud800\\x00\U0001f600", "n": [None]}, {"error": "\\udfff"}]
    assert json.dumps(told, ensure_ascii=False).encode()


def test_events_are_retired(store: SqlStore) -> None:
    """Events go by age or number, the oldest first and a few at a time."""
    with_history(store, 9, at=100.0)
    assert store.retire_events(104.0, 100, limit=2) == 2
    assert store.retire_events(104.0, 100, limit=2) == 1
    assert store.retire_events(104.0, 100, limit=2) == 0
    assert places(store.events()) == [*range(4, 10)]
    assert store.retire_events(0.0, 3, limit=100) == 3
    assert places(store.events()) == [7, 8, 9]
    store.add_event(Event("heal", {}, 1.0))
    assert places(store.events())[-1] == 10  # places go on, they are never given twice


def test_promotions_are_retired(store: SqlStore) -> None:
    """Promotions go as events do, but never the one in force, nor the newest one of a snapshot
    that may still serve."""
    token = with_history(store, 3)
    for n, version in enumerate((4, 5, 4, 5)):
        new = [snapshot(version)] if n < 2 else []
        store.commit(token, step(9, 3 + n, snapshots=new, promotions=[promotion(version)]))
    store.commit(token, step(9, 7, snapshots=[snapshot(6)], promotions=[promotion(6)]))
    store.commit(token, step(9, 8, snapshots=[], promotions=[], dropped=[6]))
    may_serve = store.servable()
    assert [(p.version, p.seq) for p in may_serve] == [(3, 3), (4, 6), (5, 7)]
    assert store.retire_promotions(1e12, 0, limit=3) == 3
    assert places(store.promotions()) == [3, 5, 6, 7, 8]
    assert store.retire_promotions(1e12, 0, limit=3) == 1
    assert store.retire_promotions(1e12, 0, limit=3) == 0
    assert places(store.promotions()) == [3, 6, 7, 8]
    newest = store.newest_promotion()
    assert newest is not None
    assert newest.seq == 8
    assert store.servable() == may_serve
    assert store.commit(token, step(9, 8, snapshots=[snapshot(7)], promotions=[promotion(7)])) == 9


def test_dropped_snapshots_are_retired(store: SqlStore) -> None:
    """The rows of dropped snapshots go, but not while a promotion names them, and never the
    highest version: no other snapshot may get it again."""
    token = led(store)
    known = [replace(snapshot(n), time=100.0 + n) for n in range(1, 10)]
    store.commit(token, step(snapshots=known, promotions=[promotion(2), promotion(5)]))
    store.commit(token, step(2, 2, snapshots=[], promotions=[], dropped=[1, 2, 3, 4, 6, 7, 8, 9]))

    def left() -> list[int]:
        return [s.version for s in store.snapshots(kept_only=False)]

    assert store.retire_snapshots(104.0, 100, limit=1) == 1
    assert store.retire_snapshots(104.0, 100, limit=100) == 1
    assert left() == [2, 4, 5, 6, 7, 8, 9]
    assert store.retire_snapshots(0.0, 2, limit=100) == 3
    assert left() == [2, 5, 8, 9]
    assert store.retire_snapshots(1e12, 0, limit=100) == 1
    assert left() == [2, 5, 9]
    assert store.newest_version() == 9
    assert store.retire_promotions(1e12, 0, limit=100) == 1
    assert store.retire_snapshots(1e12, 0, limit=100) == 1
    assert left() == [5, 9]


# -- operating points ------------------------------------------------------------------------

COSTS = OperatingPoint(0.25, PointKind.COSTS)
HELD = OperatingPoint(0.75, PointKind.UNVERIFIED)


def in_force(store: SqlStore) -> OperatingPoint:
    newest, moved, _ = store.serving_state()
    assert newest is not None
    return serving_point(newest, moved)


def test_promoted_with_its_point(store: SqlStore) -> None:
    """An operating point is written with its promotion and is in force with it, in one."""
    token = led(store)
    store.commit(token, step(1, promotions=[replace(promotion(1), operating_point=COSTS)]))
    assert [p.operating_point for p in store.promotions()] == [COSTS]
    assert in_force(store) == COSTS
    store.commit(token, step(2, 1, promotions=[replace(promotion(2), operating_point=HELD)]))
    assert in_force(store) == HELD
    store.commit(token, step(3, 2, promotions=[promotion(3)]))
    assert in_force(store) == OperatingPoint()


def test_rollback_restores_the_point(store: SqlStore) -> None:
    """A snapshot that serves again does so with the operating point that it served with last,
    not with that of the model which it replaces."""
    token = led(store)
    default = replace(promotion(1), operating_point=OperatingPoint())
    store.commit(token, step(1, promotions=[default]))
    moved = json.dumps(COSTS.as_dict())
    store.commit(token, step(2, 1, snapshots=[], promotions=[], operating_point=moved))
    assert in_force(store) == COSTS
    assert [p.operating_point for p in store.promotions()] == [OperatingPoint()]
    store.commit(token, step(2, 1, promotions=[replace(promotion(2), operating_point=HELD)]))
    assert in_force(store) == HELD
    back = replace(promotion(1, "anna"), kind=PromotionKind.ROLLBACK)
    written = store.promote(back, Event("rollback", {}, 9.0))
    assert written == store.newest_promotion() == replace(back, operating_point=COSTS, seq=3)
    assert in_force(store) == COSTS
    assert [p.operating_point for p in store.servable()] == [HELD, COSTS]


def test_point_of_an_earlier_turn(store: SqlStore) -> None:
    """A snapshot that the runner promotes again has the point of this promotion, not the one that
    moved while it served before."""
    token = led(store)
    moved = json.dumps(COSTS.as_dict())
    store.commit(token, step(1, promotions=[promotion(1)], operating_point=moved))
    again = replace(promotion(1), kind=PromotionKind.ROLLBACK, operating_point=HELD)
    for n, promoted in enumerate((replace(promotion(2), operating_point=COSTS), again)):
        new = [snapshot(2)] if n == 0 else []
        store.commit(token, step(2, 1 + n, snapshots=new, promotions=[promoted]))
    assert in_force(store) == HELD


def test_texts_that_no_database_holds(store: SqlStore) -> None:
    """NUL and half surrogate pairs are refused by name, on every database alike."""
    for bad in ("a\0b", "\ud800"):
        with pytest.raises(CommandError, match="argument: '"):
            store.add_command("forget", bad)
        with pytest.raises(ValueError, match="source: '"):
            store.add_feedback([label(1), label(2, source=bad)])
    assert store.ends() == (0, 0, 0)
    store.add_command("forget", "")
    assert store.add_feedback([label(1, source="Prüfstand 7 🙂")]).outcomes == [ACCEPTED]


# -- the rest --------------------------------------------------------------------------------


def test_operators_words(store: SqlStore) -> None:
    """Commands and events are read in order behind a place."""
    places = [store.add_command(kind, by="anna") for kind in ("pause", "heal", "resume")]
    assert [(c.kind, c.by) for c in store.commands(places[0])] == [
        ("heal", "anna"), ("resume", "anna"),
    ]  # fmt: skip
    store.add_command("forget", "desk")
    assert [(c.argument, c.by) for c in store.commands(places[-1])] == [("desk", "operator")]
    for n in range(3):
        store.add_event(Event("deployed", {"n": n}, 1.0))
    assert [e.detail["n"] for e in store.events(after=1)] == [1, 2]
    assert [e.detail["n"] for e in store.events(0, limit=1)] == [0]


def test_newest_promotion(store: SqlStore) -> None:
    """What serves is the newest promotion, whatever its version."""
    assert store.newest_promotion() is None
    store.commit(led(store), step(snapshots=[snapshot(v) for v in (1, 2, 3)], promotions=[]))
    for version in (3, 1, 2):
        store.promote(promotion(version), Event("promote", {}, 1.0))
    newest = store.newest_promotion()
    assert newest is not None
    assert (newest.version, newest.seq) == (2, 3)
    assert [p.version for p in store.promotions(after=1)] == [1, 2]


def test_what_may_serve(store: SqlStore) -> None:
    """What to fall back on is the newest promotion of each snapshot that is kept, in order."""
    token = led(store)
    store.commit(token, step(snapshots=[snapshot(v) for v in (1, 2, 3)], promotions=[]))
    for version in (1, 2, 3, 1):
        store.promote(promotion(version), Event("promote", {}, 1.0))
    assert [(p.version, p.seq) for p in store.servable()] == [(2, 2), (3, 3), (1, 4)]
    store.commit(token, step(4, 4, snapshots=[], promotions=[], dropped=[3]))
    assert [p.version for p in store.servable()] == [2, 1]


@pytest.mark.parametrize(
    ("kind", "of", "said"),
    [
        (PromotionKind.PROMOTE, 2, "promote: a pre-heal snapshot"),
        (PromotionKind.INITIAL, 3, "initial: a post-heal snapshot"),
        (PromotionKind.ROLLBACK, 4, "rollback: a post-heal snapshot that is not kept"),
    ],
)
def test_what_may_not_serve(store: SqlStore, kind: PromotionKind, of: int, said: str) -> None:
    """A step whose promotion no table allows is not written at all."""
    token = led(store)
    known = [replace(snapshot(2), phase=Phase.PRE), snapshot(3), snapshot(4)]
    store.commit(token, step(snapshots=known, promotions=[]))
    store.commit(token, step(snapshots=[], promotions=[], dropped=[4]))
    before = contents(store)
    with pytest.raises(IllegalTransition, match=said):
        store.commit(token, step(5, promotions=[replace(promotion(of), kind=kind)]))
    assert contents(store) == before


def test_create_twice(store: SqlStore, url: str) -> None:
    """Making the tables again changes nothing of what is there."""
    store.append_predictions([prediction(1)])
    before = (store.meta("secret"), store.meta("store_id"), store.ends())
    other = open_at(url)
    assert (other.meta("secret"), other.meta("store_id"), other.ends()) == before
    other.close()


def test_other_schema(store: SqlStore, url: str) -> None:
    """A store of a newer release is refused with both revisions, and not written to."""
    engine = create_engine(url)
    with engine.begin() as c:
        c.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(StoreError, match=r"9999.*0015"):
        store.create()
    with engine.connect() as c:
        assert c.execute(text("select version_num from alembic_version")).scalar() == "9999"
    engine.dispose()


def test_store_of_before_migrations(tmp_path: Path) -> None:
    """An SQLite store of the first release, which knew no migrations, is brought up to date in
    place: its log, secret and places stay, and what it holds in bytes is known."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    with engine.begin() as c:
        config, _ = revisions(c)
        command.upgrade(config, "0001")
        c.execute(text("drop table alembic_version"))
        c.execute(text("insert into meta values ('schema', '2'), ('secret', 'ab'), "
                       "('store_id', 'f00')"))  # fmt: skip
        for n in (1, 2):
            c.execute(
                text("insert into predictions (request, rows, version, time, features, "
                     "probabilities) values (:request, 2, 4, 12.5, :features, :answers)"),
                {"request": key(n), "features": prediction(n).features.tobytes(),
                 "answers": prediction(n).probabilities.tobytes()},
            )  # fmt: skip
    engine.dispose()
    store = open_at(url)
    assert (store.meta("secret"), store.meta("schema")) == ("ab", None)
    assert [e.request for e in read_all(store)] == [key(1), key(2)]
    assert store.logged() == (2 * 2 * 4 * 4, 12.5)
    store.append_predictions([prediction(3)])
    assert store.ends()[0] == 3
    assert store.logged()[0] == 3 * 2 * 4 * 4
    store.close()


def test_migrations_make_the_tables(store: SqlStore, url: str) -> None:
    """What the migrations make is what the statements are written for."""
    engine = create_engine(url)
    with engine.connect() as c:
        made = MigrationContext.configure(c)
        assert [
            d for d in compare_metadata(made, t.metadata) if "alembic_version" not in str(d)
        ] == []
    engine.dispose()


def test_out_of_reach(tmp_path: Path) -> None:
    """A store that cannot be opened says so as a StoreError, in one line."""
    (tmp_path / "folder.db").mkdir()
    broken = SqlStore(f"sqlite:///{tmp_path / 'folder.db'}")
    calls: Sequence[Any] = (broken.create, broken.status, lambda: broken.add_feedback([label(1)]))
    for call in calls:
        with pytest.raises(StoreError) as refused:
            call()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("where", ["127.0.0.1:9", "127.0.0.1:port"], ids=["gone", "malformed"])
def test_password_is_not_told(where: str) -> None:
    """No error of the store shows the password of its URL."""
    secret = "-".join(("pass", "0123456789"))
    with pytest.raises(StoreError) as refused:
        SqlStore(f"postgresql+psycopg://anna:{secret}@{where}/selfheal").status()
    assert secret not in str(refused.value)
