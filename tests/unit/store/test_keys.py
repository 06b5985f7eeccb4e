"""Own keys in the store, on SQLite and PostgreSQL: one label a key, on its newest prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import func, insert, select

from bento_selfheal.core.records import (
    WAITS,
    FeedbackOutcome,
    FeedbackRecord,
    PredictionRecord,
)
from bento_selfheal.store import SqlStore, codec
from bento_selfheal.store import tables as t
from bento_selfheal.store.labels.key_index import index_new_keys

ACCEPTED, KNOWN, CONFLICT = (
    FeedbackOutcome.ACCEPTED,
    FeedbackOutcome.KNOWN,
    FeedbackOutcome.CONFLICT,
)


@pytest.fixture
def store(fresh: Callable[[], str]) -> Iterator[SqlStore]:
    store = SqlStore(fresh())
    store.create()
    yield store
    store.close()


def hashed(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def request(number: int) -> bytes:
    return number.to_bytes(12, "big")


def asked(number: int, *keys: str, rows: int = 0) -> PredictionRecord:
    rows = rows or len(keys)
    return PredictionRecord(
        request(number), np.full((rows, 2), number, np.float32), np.full(rows, 0.3, np.float32),
        4, 12.5, keys=b"".join(map(hashed, keys)),
    )  # fmt: skip


def by_key(name: str, given: int = 1, *, corrects: bool = False) -> FeedbackRecord:
    key = hashed(name)
    return FeedbackRecord(key[:12], WAITS, given, 13.5, key=key, corrects=corrects)


def by_id(number: int, row: int = 0, given: int = 1, *, corrects: bool = False) -> FeedbackRecord:
    return FeedbackRecord(request(number), row, given, 13.5, corrects=corrects)


def log_of(store: SqlStore) -> list[PredictionRecord | FeedbackRecord]:
    return store.read_log(0, 0, limit=10_000)


def labels_of(store: SqlStore) -> list[tuple[bytes, int, int]]:
    return [(e.request, e.row, e.label) for e in log_of(store) if isinstance(e, FeedbackRecord)]


def indexed(store: SqlStore) -> int:
    with store._db.write() as c:
        index_new_keys(c)
        return int(c.execute(select(func.count()).select_from(t.prediction_keys)).scalar_one())


def test_predictions_keep_their_keys(store: SqlStore) -> None:
    """Keys are read back by row; requests without keys have none."""
    store.append_predictions([asked(1, "a", "b"), asked(2, rows=2), asked(3, "c")])
    first, none, last = (e for e in log_of(store) if isinstance(e, PredictionRecord))
    assert [first.key_of(0), first.key_of(1)] == [hashed("a"), hashed("b")]
    assert (none.keys, none.key_of(1), last.key_of(0)) == (b"", None, hashed("c"))


def test_label_goes_to_its_row(store: SqlStore) -> None:
    """A label by key belongs to the row of its key, whatever the sizes of requests around it."""
    store.append_predictions([asked(1, "a", "b", "c"), asked(2, "d"), asked(3, "e", "f")])
    result = store.add_feedback([by_key("c"), by_key("d", 0), by_key("f")])
    assert (result.outcomes, result.waiting) == ([ACCEPTED] * 3, set())
    assert result.rows == [(request(1), 2), (request(2), 0), (request(3), 1)]
    assert labels_of(store) == [(request(1), 2, 1), (request(2), 0, 0), (request(3), 1, 1)]


def test_newest_before_the_label(store: SqlStore) -> None:
    """Asked again, in one commit or in several, the newest prediction before the label has it; one
    after the label changes nothing."""
    store.append_predictions([asked(1, "a", "b")])
    store.append_predictions([asked(2, "b", "a"), asked(3, "c"), asked(4, "c")])
    assert store.add_feedback([by_key("a"), by_key("c")]).outcomes == [ACCEPTED] * 2
    store.append_predictions([asked(5, "a")])
    assert store.add_feedback([by_key("a")]).outcomes == [KNOWN]
    assert labels_of(store) == [(request(2), 1, 1), (request(4), 0, 1)]


def test_counts_once(store: SqlStore) -> None:
    """A label by key counts once, in one request or in many, also where the key was asked again in
    between; another label is in conflict, and a correction goes to the row that has the label."""
    store.append_predictions([asked(1, "a")])
    assert store.add_feedback([by_key("a"), by_key("a")]).outcomes == [ACCEPTED, KNOWN]
    store.append_predictions([asked(2, "a")])
    again = store.add_feedback([by_key("a"), by_key("a", 0)])
    assert (again.outcomes, again.kept) == ([KNOWN, CONFLICT], {1: 1})
    assert store.add_feedback([by_key("a", 0, corrects=True)]).outcomes == [ACCEPTED]
    assert labels_of(store) == [(request(1), 0, 1), (request(1), 0, 0)]


def test_by_id_and_by_key(store: SqlStore) -> None:
    """One row has one label, whether its id names it or its key, also by the id of another
    prediction of the key."""
    store.append_predictions([asked(1, "a", "b"), asked(2, "c")])
    assert store.add_feedback([by_id(1, 1), by_key("a")]).outcomes == [ACCEPTED] * 2
    store.append_predictions([asked(3, "b")])
    told = store.add_feedback([by_key("b"), by_id(1, 0), by_id(3, 0, 0), by_id(9)])
    assert told.outcomes == [KNOWN, KNOWN, CONFLICT, ACCEPTED]
    assert store.add_feedback([by_id(3, 0, 0, corrects=True)]).outcomes == [ACCEPTED]
    assert labels_of(store)[-1] == (request(1), 1, 0)


def test_label_before_its_prediction(store: SqlStore) -> None:
    """A label whose key is unknown is kept and waits; it is bound to the first prediction of the
    key that is logged, with its correction, and counts once throughout."""
    early = store.add_feedback([by_key("a"), by_key("b"), by_key("a")])
    assert (early.outcomes, early.waiting) == ([ACCEPTED, ACCEPTED, KNOWN], {0, 1})
    assert store.add_feedback([by_key("a", 0, corrects=True)]).waiting == {0}
    store.append_predictions([asked(1, "x", "a"), asked(2, "a")])
    assert labels_of(store) == [
        (request(1), 1, 1), (hashed("b")[:12], WAITS, 1), (request(1), 1, 0),
    ]  # fmt: skip
    assert store.add_feedback([by_key("a", 0), by_id(1, 1, 0)]).outcomes == [KNOWN, KNOWN]
    assert all(e.after == 0 for e in log_of(store) if isinstance(e, FeedbackRecord))


def test_early_by_key_and_by_id(store: SqlStore) -> None:
    """Both labels of one row may come before it is logged: its request is logged all the same, and
    neither is counted again."""
    assert store.add_feedback([by_key("a"), by_id(1)]).outcomes == [ACCEPTED] * 2
    store.append_predictions([asked(1, "a")])
    assert store.add_feedback([by_key("a"), by_id(1)]).outcomes == [KNOWN] * 2


def test_rows_that_bring_features_and_key(store: SqlStore) -> None:
    """A row that comes with its label and a key counts once under the key, predicted or not."""
    store.append_predictions([asked(1, "a")])
    row = np.zeros(2, np.float32)
    with_row = replace(by_key("a"), row=0, features=row)
    assert store.add_feedback([by_key("a"), with_row]).outcomes == [ACCEPTED, KNOWN]
    other = replace(by_key("b"), row=0, features=row)
    assert store.add_feedback([other, by_key("b"), by_key("b", 0)]).outcomes == [
        ACCEPTED, KNOWN, CONFLICT,
    ]  # fmt: skip


def test_many_keys_are_indexed_at_once(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys wait for the index until they are many or the runner writes it; it points at the newest
    prediction of each, also of those that look alike in their first eight bytes, and of those that
    came before and after."""
    monkeypatch.setattr("bento_selfheal.store.labels.key_index.MOST_NEW", 5)
    monkeypatch.setattr("bento_selfheal.store.labels.key_index.PART", 5)
    store.append_predictions([asked(1, "lookalike-a", "lookalike-b"), asked(2, "c", "lookalike-a")])
    with store._db.read() as c:
        assert c.execute(select(t.prediction_keys)).all() == []
    store.append_predictions([asked(3, rows=2), asked(4, "c")])
    with store._db.read() as c:
        assert len(c.execute(select(t.prediction_keys)).all()) == 3
    store.append_predictions([asked(5, "d"), asked(6, rows=1)])
    store.append_predictions([asked(7, "c")])
    names = ("lookalike-a", "lookalike-b", "c", "d")
    result = store.add_feedback([by_key(name) for name in names])
    assert result.rows == [(request(2), 1), (request(1), 1), (request(7), 0), (request(5), 0)]


def test_beside_an_older_release(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica of an older release, which counts no keys, keeps none out of the index."""
    monkeypatch.setattr("bento_selfheal.store.labels.key_index.PART", 3)
    store.append_predictions([asked(1, "a")])
    older = codec.prediction_row(asked(2, "older-1", "older-2"))
    with store._db.write() as c:
        c.execute(insert(t.predictions), [{**older, "upto": 10**6}])
    store.append_predictions([asked(3, "b")])
    while store.index_keys():
        pass
    store.append_predictions([asked(4, "c")])
    result = store.add_feedback([by_key("a"), by_key("older-2"), by_key("b"), by_key("c")])
    assert result.rows == [(request(1), 0), (request(2), 1), (request(3), 0), (request(4), 0)]


def test_retired_before_they_are_indexed(store: SqlStore) -> None:
    """Keys whose requests are retired before a label looks for them are in no index."""
    store.append_predictions([asked(1, "a"), replace(asked(2, "b"), time=99.0)])
    assert store.retire_predictions(before=50.0, bytes_kept=10**9, limit=100) == 1
    result = store.add_feedback([by_key("a"), by_key("b")])
    assert (result.waiting, result.rows[1], indexed(store)) == ({0}, (request(2), 0), 1)


def test_retention_drops_keys(store: SqlStore) -> None:
    """Keys go with their predictions; one that was asked again since stays with the newer one, and
    a label of a key that is gone waits."""
    store.append_predictions([asked(1, "a", "b"), asked(2, "c")])
    store.append_predictions([replace(asked(3, "b"), time=99.0), replace(asked(4, "d"), time=99.0)])
    assert indexed(store) == 4
    assert store.retire_predictions(before=50.0, bytes_kept=10**9, limit=100) == 2
    assert indexed(store) == 2
    result = store.add_feedback([by_key("a"), by_key("b")])
    assert (result.waiting, result.rows[1]) == ({0}, (request(3), 0))


def test_keys_count_in_the_size_of_the_log(store: SqlStore) -> None:
    """The size by which retention goes has the keys in it, and comes down with them."""
    store.append_predictions([asked(1, rows=2)])
    plain, _ = store.logged()
    store.append_predictions([asked(2, "a", "b"), asked(3, rows=2)])
    assert store.logged()[0] > 3 * plain
    assert store.retire_predictions(before=0, bytes_kept=plain, limit=100) == 2
    assert store.logged()[0] == plain


def test_a_step_of_retention_deletes_few_keys(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of many keys are retired a few at a time."""
    monkeypatch.setattr("bento_selfheal.store.retention.KEY_BYTES", 40)
    store.append_predictions([asked(n, f"{n}", f"{n}b") for n in range(1, 5)])
    step = [store.retire_predictions(before=50.0, bytes_kept=10**9, limit=100) for _ in range(4)]
    assert (step, indexed(store)) == ([1, 1, 1, 0], 2)


def test_a_new_class_keeps_its_name(store: SqlStore) -> None:
    """A label by key of a class that the model lacks is on the row of its key, with its name."""
    store.append_predictions([asked(1, "a", "b")])
    new = replace(by_key("b", 1344408122), new_class="7")
    assert store.add_feedback([new]).outcomes == [ACCEPTED]
    assert store.new_class_of(request(1), 1) == "7"


def test_a_request_that_is_sent_again(store: SqlStore) -> None:
    """The same keys with the same rows, within ten minutes, in one commit or in another, are the
    same request; the same keys with other rows, later, or in other company are not."""
    first = asked(1, "a", "b")
    again = [replace(first, request=request(n), time=first.time + 60) for n in (2, 3)]
    store.append_predictions([first, again[0], asked(4, rows=2)])
    store.append_predictions([again[1], replace(asked(5, "a"), features=first.features[:1])])
    late = replace(first, request=request(6), time=first.time + 700)
    store.append_predictions([asked(7, "a", "b"), late, replace(late, request=request(8))])
    log = [e for e in log_of(store) if isinstance(e, PredictionRecord)]
    retried = [int.from_bytes(e.request, "big") for e in log if e.retried]
    assert retried == [2, 3, 8]
    assert store.add_feedback([by_key("b")]).rows == [(request(8), 1)]


@pytest.mark.parametrize("commits", [1, 7], ids=["in one commit", "in seven"])
def test_what_is_asked_all_the_time(store: SqlStore, commits: int) -> None:
    """A row that is asked every three minutes counts again once ten minutes have passed since it
    counted last, however often it was asked in between."""
    records = [replace(asked(n + 1, "pump"), features=np.ones((1, 2), np.float32),
                       time=1000.0 + 180 * n) for n in range(7)]  # fmt: skip
    for at in range(commits):
        store.append_predictions(records[at * 7 // commits : (at + 1) * 7 // commits])
    log = [e for e in log_of(store) if isinstance(e, PredictionRecord)]
    assert [e.retried for e in log] == [False, True, True, True, False, True, True]


def test_old_requests_are_forgotten(store: SqlStore) -> None:
    """What is kept to know requests that are sent again is kept for minutes, not for the log's
    days."""
    for n in range(5):
        store.append_predictions([replace(asked(n + 1, f"{n}"), time=1000.0 * n)])
    with store._db.read() as c:
        assert len(c.execute(select(t.recent_requests)).all()) <= 2
