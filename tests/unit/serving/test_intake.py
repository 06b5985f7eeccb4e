"""The intake: predictions wait for no store, feedback is checked whole and then kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from conftest import wait_for

from bento_selfheal.core.ids import IdSigner, ids_of
from bento_selfheal.core.labels import FIRST_NEW, NO_LABEL
from bento_selfheal.core.records import FeedbackOutcome, FeedbackRecord, PredictionRecord, RawInput
from bento_selfheal.errors import InvalidInput, StoreError
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.serving.feedback import FeedbackIntake
from bento_selfheal.serving.prediction_log import PredictionLog
from bento_selfheal.serving.reading.keys import KeyReader
from bento_selfheal.serving.reading.rows import RowReader
from bento_selfheal.store import SqlStore
from bento_selfheal.store.inputs import ROW_BYTES
from bento_selfheal.store.labels.conflicts import MOST_REVISIONS

NAMES, CLASSES = ["a", "b"], ["no", "yes"]
KEYS = KeyReader("ab" * 32)


@dataclass
class Item:
    """An item of feedback as the service hands it on."""

    label: Any
    prediction_id: str | None = None
    features: Any = None
    key: str | None = None
    source: str | None = None
    corrects: bool = False
    time: float | None = None
    retract: bool = False


@pytest.fixture
def signer(store: SqlStore) -> IdSigner:
    return IdSigner(store.meta("secret") or "")


@pytest.fixture
def intake(store: SqlStore, signer: IdSigner) -> Iterator[FeedbackIntake]:
    intake = FeedbackIntake(
        store, signer, KEYS, RowReader(NAMES, 5).read_one, LabelReader(CLASSES), 5
    )
    yield intake
    intake.stop()


def kept(store: SqlStore) -> list[FeedbackRecord]:
    return [e for e in store.read_log(0, 0, 1000) if isinstance(e, FeedbackRecord)]


def issued(signer: IdSigner, rows: int, **more: bool) -> tuple[bytes, list[str]]:
    key, token = signer.issue(rows, **more)
    return key, ids_of(token, rows)


def counts(answer: Any) -> tuple[int, ...]:
    return tuple(answer.counts[o] for o in FeedbackOutcome)


# -- feedback --------------------------------------------------------------------------------


def test_every_outcome(intake: FeedbackIntake, signer: IdSigner, store: SqlStore) -> None:
    """One request tells accepted, known, unknown and conflicting items apart; ids that nobody
    issued are named, a conflict names its item, its id, and the class that is kept."""
    _, ids = issued(signer, 3)
    intake.accept([Item("yes", ids[0]), Item("no", ids[1])], None)
    answer = intake.accept(
        [Item("yes", "nobody.0"), Item("yes", ids[0]), Item("yes", ids[1]), Item("no", ids[2]),
         Item("no", ids[2] + "9")], None,
    )  # fmt: skip
    assert counts(answer) == (1, 1, 2, 1)
    assert answer.unknown == ["nobody.0", ids[2] + "9"]
    assert answer.conflicts == [{"item": 2, "prediction_id": ids[1], "given": "yes", "kept": "no"}]
    assert [r.label for r in kept(store)] == [1, 0, 0]


def test_corrects(intake: FeedbackIntake, signer: IdSigner, store: SqlStore) -> None:
    """An item that corrects replaces the label, with its source and trace on record."""
    _, [one] = issued(signer, 1)
    intake.accept([Item("yes", one)], None)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    answer = intake.accept([Item("no", one, source="review", corrects=True)], trace)
    assert counts(answer) == (1, 0, 0, 0)
    newest = kept(store)[-1]
    assert (newest.label, newest.corrects, newest.source, newest.trace) == (
        0, True, "review", trace,
    )  # fmt: skip


def test_rows_without_ids(intake: FeedbackIntake, store: SqlStore) -> None:
    """Without an id a row is known by its content and source, as list or object alike, and by the
    client's own key: one row counts once, under however many keys."""
    first = intake.accept([Item("yes", features=[1, 2])], None)
    same = intake.accept([Item("yes", features={"b": 2.0, "a": 1.0})], None)
    other = intake.accept(
        [Item("yes", features=[1, 2], source="lab"), Item("yes", features=[1, 3]),
         Item("yes", features=[1, 2], key="row 1"), Item("yes", features=[9, 9], key="row 1"),
         Item("no", features=[1, 2], key="row 2")], None,
    )  # fmt: skip
    assert [counts(a) for a in (first, same, other)] == [(1, 0, 0, 0), (0, 1, 0, 0), (2, 2, 0, 1)]
    assert next(r.features.tolist() for r in kept(store) if r.features is not None) == [1.0, 2.0]
    clash = intake.accept([Item("no", features=[1, 2])], None)
    assert clash.conflicts == [{"item": 0, "prediction_id": None, "given": "no", "kept": "yes"}]


def test_taken_back(intake: FeedbackIntake, signer: IdSigner, store: SqlStore) -> None:
    """A source takes its own label back, by id, by key and by features alike; another's is in
    conflict, which says what is kept."""
    _, ids = issued(signer, 1)
    named: list[dict[str, Any]] = [
        {"prediction_id": ids[0]}, {"key": "tx-1"}, {"features": [1, 2]},
        {"features": [3, 4], "key": "tx-2"},
    ]  # fmt: skip
    intake.accept([Item("yes", source="a", **name) for name in named], None)
    other = intake.accept(
        [Item(None, source="b", retract=True, **name) for name in named[:3]], None
    )
    # Named by its content, a row of another source is another row.
    assert counts(other) == (0, 1, 0, 2)
    assert [(c["given"], c["kept"]) for c in other.conflicts] == [(None, "yes")] * 2
    named[3] = {"key": "tx-2"}
    own = [Item(None, source="a", retract=True, **name) for name in named]
    assert [counts(intake.accept(own, None)) for _ in range(2)] == [(4, 0, 0, 0), (0, 4, 0, 0)]
    gone = kept(store)[-1]
    assert (gone.label, gone.corrects) == (NO_LABEL, True)
    assert gone.features is not None
    assert gone.features.tolist() == [3.0, 4.0]


def test_one_row_under_many_keys(intake: FeedbackIntake, store: SqlStore) -> None:
    """However many keys a sender gives one row, it counts once; another sender's is its own."""
    for token in ("shop", "till"):
        told = [
            intake.accept(
                [Item("yes", features=[1, 2], key=str(5 * n + i), source=token) for i in range(5)],
                None, token,
            )
            for n in range(20)
        ]  # fmt: skip
        assert sum(counts(one)[0] for one in told) == 1
    assert len(kept(store)) == 2


def test_keys_of_senders_do_not_collide(intake: FeedbackIntake, store: SqlStore) -> None:
    """Two tokens may give their rows the same keys."""
    for token, row in (("shop", [1, 2]), ("till", [3, 4])):
        answer = intake.accept([Item("yes", features=row, key="1", source=token)], None, token)
        assert counts(answer) == (1, 0, 0, 0)
        taken = Item(None, key="1", source=token, retract=True)
        assert counts(intake.accept([taken], None, token)) == (1, 0, 0, 0)
    assert [r.label for r in kept(store)] == [1, NO_LABEL, 1, NO_LABEL]


def test_a_new_class_is_kept(intake: FeedbackIntake, signer: IdSigner, store: SqlStore) -> None:
    """A class that the model never saw is kept with its name; a label of the same row that differs
    is told what is kept."""
    _, ids = issued(signer, 2)
    answer = intake.accept([Item("maybe", ids[0]), Item("maybe", ids[1])], None)
    assert counts(answer) == (2, 0, 0, 0)
    assert {(r.label >= FIRST_NEW, r.new_class) for r in kept(store)} == {(True, '"maybe"')}
    clash = intake.accept([Item("perhaps", ids[0]), Item("maybe", ids[1])], None)
    assert counts(clash) == (0, 1, 0, 1)
    assert (clash.conflicts[0]["given"], clash.conflicts[0]["kept"]) == ("perhaps", "maybe")


def test_too_many_labels_of_a_row(intake: FeedbackIntake, signer: IdSigner) -> None:
    """A row whose label is changed on and on is refused by its id; the other items are kept."""
    _, ids = issued(signer, 2)
    for n in range(MOST_REVISIONS // 5):
        five = [Item(CLASSES[(5 * n + i) % 2], ids[0], corrects=True) for i in range(5)]
        assert counts(intake.accept(five, None)) == (5, 0, 0, 0)
    with pytest.raises(InvalidInput, match=f"the row {ids[0]} has had 100 labels") as refused:
        intake.accept([Item("yes", ids[1]), Item("no", ids[0], corrects=True)], None)
    assert (refused.value.loc, refused.value.kind) == (("items", 1), "revisions")
    assert counts(intake.accept([Item("yes", ids[1])], None)) == (0, 1, 0, 0)


@pytest.mark.parametrize(
    ("bad", "loc"),
    [
        (Item("Yes", "x"), ("items", 1, "label")),
        (Item(None, "x"), ("items", 1, "label")),
        (Item("yes", "x", retract=True), ("items", 1, "retract")),
        (Item(None, "x", retract=True, corrects=True), ("items", 1, "retract")),
        (Item(1, "x"), ("items", 1, "label")),
        (Item("yes"), ("items", 1)),
        (Item("yes", "x", features=[1, 2]), ("items", 1)),
        (Item("yes", features=[1, 2, 3]), ("items", 1, "features")),
        (Item("yes", features=[1, float("nan")]), ("items", 1, "features", "b")),
        (Item("yes", features={"a": 1, "zz": 2}), ("items", 1, "features", "zz")),
        (Item("yes", features="text"), ("items", 1, "features")),
    ],
)
def test_malformed(intake: FeedbackIntake, signer: IdSigner, store: SqlStore, bad: Item,
                   loc: tuple[Any, ...]) -> None:  # fmt: skip
    """A malformed item is refused at its place, and nothing of its request is kept."""
    _, [good] = issued(signer, 1)
    with pytest.raises(InvalidInput) as refused:
        intake.accept([Item("yes", good), bad], None)
    assert refused.value.loc == loc
    assert kept(store) == []


def test_sizes(intake: FeedbackIntake) -> None:
    """No items, and more than the limit, are refused with the count."""
    with pytest.raises(InvalidInput, match="no items"):
        intake.accept([], None)
    with pytest.raises(InvalidInput, match="6 items") as refused:
        intake.accept([Item("yes", "x")] * 6, None)
    assert refused.value.kind == "too_many"


def test_no_store(intake: FeedbackIntake, signer: IdSigner, store: SqlStore,
                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Feedback that the store did not take is not acknowledged; sent again, it counts once."""
    _, [one] = issued(signer, 1)
    real = store.add_feedback

    def away(_: Any) -> Any:
        raise StoreError("away")

    monkeypatch.setattr(store, "add_feedback", away)
    with pytest.raises(StoreError):
        intake.accept([Item("yes", one)], None)
    monkeypatch.setattr(store, "add_feedback", real)
    assert counts(intake.accept([Item("yes", one)], None)) == (1, 0, 0, 0)


# -- the prediction log ----------------------------------------------------------------------


def record(number: int, rows: int = 2) -> PredictionRecord:
    return PredictionRecord(number.to_bytes(12, "big"), np.zeros((rows, 2), dtype=np.float32),
                            np.zeros(rows, dtype=np.float32), 1, 1.0)  # fmt: skip


def logged(store: SqlStore) -> list[int]:
    return [int.from_bytes(e.request, "big") for e in store.read_log(0, 0, 10_000)]


def test_written_in_order(store: SqlStore) -> None:
    """What is appended stands in the store, in order, without being waited for."""
    log = PredictionLog(store, interval=0.005, limit=10_000)
    log.thread.start()
    for n in range(1, 1201):
        log.append(record(n))
    wait_for(lambda: log.waiting == 0, "an empty queue")
    log.thread.stop()
    assert logged(store) == list(range(1, 1201))
    assert (log.written, log.dropped) == (2400, 0)


def test_close_writes_what_is_left(store: SqlStore) -> None:
    """A worker that stops in order loses no prediction."""
    log = PredictionLog(store, interval=60, limit=100)
    log.thread.start()
    log.append(record(1))
    log.thread.stop()
    assert logged(store) == [1]


def test_bounded(store: SqlStore) -> None:
    """While the store stalls at most the limit waits; what is over it is dropped and counted, and
    after that new rows are taken again."""
    log = PredictionLog(store, interval=60, limit=5)
    for n in (1, 2, 3):
        log.append(record(n))
    assert (log.waiting, log.dropped) == (4, 2)
    log.flush()
    log.append(record(4))
    log.flush()
    assert logged(store) == [1, 2, 4]


def with_input(number: int, size: int) -> PredictionRecord:
    return replace(record(number, 1), inputs=(RawInput("image/png", b"x" * size),))


def test_inputs_are_bounded(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store stalls no more bytes of inputs wait than the limit; predictions beyond it are
    kept without theirs, and an event tells how many."""
    monkeypatch.setattr("bento_selfheal.serving.prediction_log.INPUT_BYTES", 1000)
    log = PredictionLog(store, interval=60, limit=100)
    for number, size in enumerate([600, 500, 400, 1], start=1):
        log.append(with_input(number, size))
    assert (log.waiting, log.dropped) == (4, 0)
    log._write()
    log.append(with_input(5, 1000))
    log.append(with_input(6, 1))
    log._write()
    assert logged(store) == [1, 2, 3, 4, 5, 6]
    bodies = [store.input_body(seq) for seq in range(1, 5)]
    assert [body and len(body) for body in bodies] == [600, 400, 1000, None]
    events = [e for e in store.events() if e.kind == "inputs_dropped"]
    assert [e.detail["rows"] for e in events] == [2, 1]
    assert "than the store could take" in events[0].detail["reason"]


def test_no_more_inputs_than_the_store_should_hold(store: SqlStore) -> None:
    """Where no runner retires inputs they do not fill the disk: predictions are written alone, an
    event says why, and once there is room again inputs are kept."""
    log = PredictionLog(store, interval=60, limit=100, input_limit=1000)
    for number in (1, 2, 3):
        log.append(with_input(number, 1000))
        log._write()
    assert store.logged_inputs() == 1000 + ROW_BYTES
    assert logged(store) == [1, 2, 3]
    [first, second] = [e for e in store.events() if e.kind == "inputs_dropped"]
    assert (first.detail["rows"], second.detail["rows"]) == (1, 1)
    assert "no runner retires them" in first.detail["reason"]
    store.retire_inputs(1e12, 0, limit=10)
    log.append(with_input(4, 1000))
    log._write()
    assert store.logged_inputs() == 1000 + ROW_BYTES


def test_commits_with_inputs_are_small(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large inputs are written few at a time, so that labels are not held up; one that is larger
    than a commit should be is written by itself."""
    monkeypatch.setattr("bento_selfheal.serving.prediction_log.GROUP_BYTES", 1000)
    log, commits, real = PredictionLog(store, interval=60, limit=100), [], store.append_predictions

    def count(records: Any) -> None:
        commits.append([r.input_bytes for r in records])
        real(records)

    monkeypatch.setattr(store, "append_predictions", count)
    for number, size in enumerate([400, 600, 1, 5000, 300, 300], start=1):
        log.append(with_input(number, size))
    log.flush()
    assert commits == [[400, 600], [1], [5000], [300, 300]]
    assert logged(store) == [1, 2, 3, 4, 5, 6]


def test_drops_are_explained(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the store takes predictions again, an event says how many were dropped, from when to
    when, and why."""
    monkeypatch.setattr("bento_selfheal.serving.prediction_log.RETRY_SECONDS", 0.001)
    log, real = PredictionLog(store, interval=0.001, limit=4), store.append_predictions

    def away(records: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "append_predictions", away)
    for n in (1, 2, 3, 4):
        log.append(record(n))
    log.thread.start()
    wait_for(lambda: any(gap.error for gap in log._gaps.values()), "the store's reason")
    note, noted = store.add_event, threading.Event()

    def away_again(happened: Any) -> None:
        monkeypatch.setattr(store, "add_event", note)
        noted.set()
        raise StoreError("gone again")

    monkeypatch.setattr(store, "add_event", away_again)
    monkeypatch.setattr(store, "append_predictions", real)
    [event] = wait_for(store.events, "the event")
    assert noted.is_set()
    assert event.kind == "dropped"
    assert (event.detail["rows"], event.detail["reason"]) == (4, "the disk is full")
    assert event.detail["since"] <= event.detail["until"]
    log.thread.stop()
    assert logged(store) == [1, 2]


def test_labels_of_many_requests_are_one_commit(
    store: SqlStore, intake: FeedbackIntake, signer: IdSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes while a commit runs is committed together; each request gets its own outcome."""
    commits, entered, go, real = [], threading.Event(), threading.Event(), store.add_feedback

    def slow(records: Any) -> Any:
        commits.append(len(records))
        entered.set()
        assert go.wait(30)
        return real(records)

    monkeypatch.setattr(store, "add_feedback", slow)
    _, ids = issued(signer, 3)
    asked = [[Item("yes", ids[0])], [Item("yes", ids[1]), Item("no", ids[0])], [Item("no", ids[2])]]
    answers: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n: answers.update({n: intake.accept(asked[n], None)}))
        for n in range(3)
    ]
    threads[0].start()
    assert entered.wait(30)
    for n in (1, 2):
        threads[n].start()
        wait_for(lambda n=n: intake._log._queue.qsize() == n, "the next request waits")
    go.set()
    for thread in threads:
        thread.join(30)
    assert commits == [1, 3]
    assert [counts(answers[n]) for n in range(3)] == [(1, 0, 0, 0), (1, 0, 0, 1), (1, 0, 0, 0)]
    assert answers[1].conflicts[0]["item"] == 1
    assert len(kept(store)) == 3


def test_failed_commit_is_told_to_all(
    store: SqlStore, intake: FeedbackIntake, signer: IdSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that fails is no acknowledgement, and the next one goes through."""
    _, ids = issued(signer, 1)
    real = store.add_feedback

    def away(records: Any) -> Any:
        raise StoreError("away")

    monkeypatch.setattr(store, "add_feedback", away)
    with pytest.raises(StoreError, match="away"):
        intake.accept([Item("yes", ids[0])], None)
    monkeypatch.setattr(store, "add_feedback", real)
    assert counts(intake.accept([Item("yes", ids[0])], None)) == (1, 0, 0, 0)


def test_unmatched(intake: FeedbackIntake, signer: IdSigner, store: SqlStore) -> None:
    """A label for a request that was left out of the log is kept, and said to be unmatched."""
    _, logged_ids = issued(signer, 1)
    _, left_out = issued(signer, 2, logged=False)
    answer = intake.accept([Item("yes", i) for i in (*logged_ids, *left_out)], None)
    assert counts(answer) == (3, 0, 0, 0)
    assert answer.unmatched == 2
    assert len(kept(store)) == 3


def test_stalled_store(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer never waits for the store: while a write hangs, appending goes on."""
    entered, go, real = threading.Event(), threading.Event(), store.append_predictions

    def hang(records: Any) -> None:
        entered.set()
        assert go.wait(30)
        real(records)

    monkeypatch.setattr(store, "append_predictions", hang)
    log = PredictionLog(store, interval=0.001, limit=1000)
    log.thread.start()
    log.append(record(1))
    assert entered.wait(30)
    for n in range(2, 51):
        log.append(record(n))
    assert log.waiting == 100
    go.set()
    wait_for(lambda: log.waiting == 0, "an empty queue")
    log.thread.stop()
    assert logged(store) == list(range(1, 51))


def test_answer_of_a_commit_lost(store: SqlStore) -> None:
    """A group that is in the store though its answer never came is not written twice, and what
    waits behind it is written."""
    log, real = PredictionLog(store, interval=60, limit=1000), store.append_predictions

    def cut_off(records: Any) -> None:
        real(records)
        raise StoreError("server closed the connection unexpectedly")

    store.append_predictions = cut_off  # type: ignore[method-assign]
    log.append(record(1))
    with pytest.raises(StoreError):
        log.flush()
    store.append_predictions = real  # type: ignore[method-assign]
    log.append(record(2))
    log.flush()
    assert logged(store) == [1, 2]
    assert log.waiting == 0


def test_slow_store(
    store: SqlStore, intake: FeedbackIntake, signer: IdSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Feedback that a store takes too long for is refused, and so is what waits behind it; sent
    again later both count once."""
    monkeypatch.setattr("bento_selfheal.serving.label_log.ANSWER_SECONDS", 0.1)
    _, ids = issued(signer, 2)
    go, commits, real = threading.Event(), [], store.add_feedback

    def slow(records: Any) -> Any:
        assert go.wait(30)
        commits.append(len(records))
        return real(records)

    monkeypatch.setattr(store, "add_feedback", slow)
    for one in ids:
        with pytest.raises(StoreError, match="send the labels again"):
            intake.accept([Item("yes", one)], None)
    monkeypatch.setattr("bento_selfheal.serving.label_log.ANSWER_SECONDS", 30)
    go.set()
    answer = intake.accept([Item("yes", one) for one in ids], None)
    assert counts(answer)[:2] == (1, 1)
    assert commits == [1, 2]
    assert len(kept(store)) == 2


def test_broken_store(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failing store did not take is written once it works again, each row once."""
    monkeypatch.setattr("bento_selfheal.serving.prediction_log.RETRY_SECONDS", 0.005)
    real, failures = store.append_predictions, []

    def fails(records: Any) -> None:
        if len(failures) < 3:
            failures.append(1)
            raise StoreError("away")
        real(records)

    monkeypatch.setattr(store, "append_predictions", fails)
    log = PredictionLog(store, interval=0.001, limit=1000)
    log.thread.start()
    for n in range(1, 11):
        log.append(record(n))
    wait_for(lambda: log.waiting == 0, "an empty queue")
    log.thread.stop()
    assert logged(store) == list(range(1, 11))
    assert len(failures) == 3
