"""What an erasure does to the tables, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from erasing import BEGAN, hash_of, label_of
from sqlalchemy import create_engine, text

from bento_selfheal.core.records import (
    Event,
    FeedbackRecord,
    OperatingPoint,
    Phase,
    PredictionRecord,
    Promotion,
    PromotionKind,
    RawInput,
    Snapshot,
)
from bento_selfheal.errors import LeaseLost
from bento_selfheal.scoring.review import Review
from bento_selfheal.store import SqlStore, StepRecord

ROWS = np.asarray([[0.1, 0.2], [7.1, 7.2], [0.3, 1.5]], dtype=np.float32)
KEYS = b"".join(map(hash_of, ("a", "b", "c")))
LEAN = OperatingPoint(0.25)


@pytest.fixture
def url(fresh: Callable[[], str]) -> str:
    return fresh()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    store.create()
    store.begin_status({"state": "HEALTHY", "rows_trouble": "value 7.1"})
    yield store
    store.close()


def asked(number: int, rows: Any = ROWS, keys: bytes = KEYS) -> PredictionRecord:
    request = number.to_bytes(12, "big")
    review = Review(0.5, np.ones(len(rows), dtype=bool)).pack()
    inputs = tuple(RawInput("text/plain", b"row %d" % n) for n in range(len(rows)))
    return PredictionRecord(
        request, rows, rows[:, 0] / 10, 1, BEGAN + number, keys=keys, review=review, inputs=inputs
    )


def snapshot(version: int, predictions: int | None, labels: int | None) -> Snapshot:
    phase = Phase.CLEAN if version == 1 else Phase.POST
    return Snapshot(
        version, f"m:{version}", phase, f"{version}" * 8, 1, 1, "", BEGAN,
        seen_predictions=predictions, seen_labels=labels,
    )  # fmt: skip


def promotion(kind: PromotionKind, version: int) -> Promotion:
    return Promotion(
        kind, version, f"m:{version}", f"{version}" * 8, "", BEGAN, operating_point=LEAN
    )


def healed(store: SqlStore, *snapshots: Snapshot) -> int:
    """Snapshots are kept and the last one serves; the token of the runner that leads."""
    token = store.acquire_lease("old", 60.0)
    assert token is not None
    promotions = [promotion(PromotionKind.INITIAL, 1)]
    promotions += [promotion(PromotionKind.PROMOTE, s.version) for s in snapshots]
    store.commit(token, StepRecord(
        b"checkpoint", {"state": "HEALTHY"}, [snapshot(1, None, None), *snapshots],
        promotions=promotions,
    ))  # fmt: skip
    for kept in snapshots:
        store.keep_adapter(kept.sha256, b"adapter", "")
    return token


def test_the_others_stay(store: SqlStore, url: str) -> None:
    """The row's values, key, label, input and event are gone, wherever it was asked; every other
    row is, to the bit, what it was."""
    store.append_predictions([asked(1), asked(2, ROWS[1:2], hash_of("b")), asked(3, keys=b"")])
    store.add_feedback([label_of(key, 1, BEGAN) for key in ("a", "b", "c")])
    for name in ("a", "b"):
        detail = {"key": hash_of(name).hex(), "error": "value"}
        store.add_event(Event("row_set_aside", detail, BEGAN))
    before = store.predictions_of({asked(n).request for n in (1, 3)})
    done = store.erase(key=hash_of("b"), by="ana")
    assert done is not None
    assert (done.promotion, done.dropped) == (None, [])
    after = store.predictions_of({asked(n).request for n in (1, 2, 3)})
    one = after[asked(1).request]
    np.testing.assert_array_equal(one.features, ROWS * [[1], [0], [1]])
    np.testing.assert_array_equal(one.probabilities, before[one.request].probabilities * [1, 0, 1])
    assert [one.key_of(row) for row in (0, 2)] == [hash_of("a"), hash_of("c")]
    assert one.key_of(1) not in (hash_of("b"), bytes(16))
    assert Review.unpack(one.review, 3).certain.tolist() == [True, False, True]
    assert (one.erased, after[asked(2).request].erased) == (b"\x40", b"\x80")
    assert not after[asked(2).request].features.any()
    np.testing.assert_array_equal(after[asked(3).request].features, ROWS)
    labels = [e.key for e in store.read_log(0, 0) if isinstance(e, FeedbackRecord)]
    assert labels == [hash_of("a"), hash_of("c")]
    named = [e.detail["key"] for e in store.events() if e.kind == "row_set_aside"]
    assert named == [hash_of("a").hex()]
    engine = create_engine(url)
    with engine.connect() as c:
        inputs = c.execute(text('select request, "row" from inputs order by seq')).all()
        keys = c.execute(text("select key from prediction_keys")).scalars().all()
    engine.dispose()
    assert [row for _, row in inputs] == [0, 2, 0, 1, 2]
    assert {bytes(key) for key in keys} == {hash_of("a"), hash_of("c")}
    assert store.erase(key=hash_of("b"), by="ana") is None


def test_notes_of_requests(store: SqlStore, url: str) -> None:
    """Nothing is left of the key in what knows requests that are sent again, also where retention
    has taken the request; other requests are known as before."""
    store.append_predictions([asked(1), asked(2, ROWS[1:2], hash_of("b"))])
    store.add_feedback([label_of("a", 1, BEGAN)])
    assert store.retire_predictions(BEGAN + 1.5, 10**9, limit=10) == 1
    assert store.erase(key=hash_of("a"), by="ana") is not None
    engine = create_engine(url)
    with engine.connect() as c:
        notes = c.execute(text("select first_key from recent_requests")).scalars().all()
    engine.dispose()
    assert notes == [int.from_bytes(hash_of("b")[:8], "big", signed=True)]


@pytest.mark.parametrize("keys", [KEYS, b""], ids=["with keys", "without"])
def test_by_id_and_once(store: SqlStore, keys: bytes) -> None:
    """A row that was erased is not there by its id either, and nothing is voided again; a label
    that names it afterwards can be erased."""
    store.append_predictions([asked(1, keys=keys)])
    place = (asked(1).request, 1)
    assert store.erase(place=place, by="ana") is not None
    token = store.acquire_lease("new", 60.0)
    assert token is not None
    store.commit(token, StepRecord(b"without the row", {}))
    assert store.erase(place=place, by="ana") is None
    assert store.state() == b"without the row"
    store.add_feedback([FeedbackRecord(*place, 1, BEGAN)])
    assert store.erase(place=place, by="ana") is not None
    assert not [e for e in store.read_log(0, 0) if isinstance(e, FeedbackRecord)]


@pytest.mark.parametrize(
    ("seen", "version"),
    [
        pytest.param([(0, 0), (0, 0)], 3, id="taught nothing yet"),
        pytest.param([(0, 0), (0, 1)], 2, id="the newest had its label"),
        pytest.param([(0, 0), (1, 0)], 2, id="the newest heard of it"),
        pytest.param([(0, 1), (0, 2)], 1, id="both had it"),
        pytest.param([(None, None), (0, 0)], 3, id="an old one may have"),
        pytest.param([(None, None), (0, 1)], 1, id="an old one may have, and the newest had"),
    ],
)
def test_what_serves(
    store: SqlStore, seen: list[tuple[int | None, int | None]], version: int
) -> None:
    """The newest snapshot that never saw the row serves, with its own threshold; the others are
    kept no more, nor are their adapters."""
    store.append_predictions([asked(1)])
    store.add_feedback([label_of("b", 1, BEGAN)])
    healed(store, *(snapshot(n, *places) for n, places in enumerate(seen, start=2)))
    assert store.erase(key=hash_of("b"), by="ana") is not None
    newest = store.newest_promotion()
    assert newest is not None
    assert newest.version == version
    back = version != 3
    assert (newest.kind, newest.by) == (
        (PromotionKind.ROLLBACK, "ana") if back else (PromotionKind.PROMOTE, "runner")
    )
    assert newest.operating_point == LEAN
    kept = {s.version for s in store.snapshots()}
    assert kept == {1} | {n for n, s in enumerate(seen, start=2) if max(s[0] or 0, s[1] or 0) == 0
                          and None not in s}  # fmt: skip
    assert {n for n in (2, 3) if store.adapter(f"{n}" * 8) is not None} == kept - {1}
    kinds = [e.kind for e in store.events()]
    assert kinds == (["rollback"] if back else []) + ["erased"]


def test_a_step_under_way_is_void(store: SqlStore) -> None:
    """A runner that has the row in memory cannot write it, whatever it is about to; another one
    leads at once, from no checkpoint."""
    store.append_predictions([asked(1)])
    token = healed(store)
    assert store.erase(key=hash_of("b"), by="ana") is not None
    assert store.state() is None
    status = store.status()
    assert (status["rebuilding"], status["rows_trouble"]) == (True, "")
    with pytest.raises(LeaseLost):
        store.commit(token, StepRecord(b"with the row", {}))
    assert store.acquire_lease("new", 60.0) is not None


def test_only_the_checkpoint_knows(store: SqlStore) -> None:
    """A row that retention has taken from the logs but that the runner still trains on is erased;
    nobody knows when it was learned, so only the packaged model is left."""
    token = healed(store, snapshot(2, 0, 0))
    state = b"..." + hash_of("b") + b"..."
    store.commit(token, StepRecord(state, {}, after_promotion=2))
    assert store.erase(key=hash_of("nobody"), by="ana") is None
    assert store.erase(key=hash_of("b"), by="ana") is not None
    assert [s.version for s in store.snapshots()] == [1]
    assert store.erase(key=hash_of("b"), by="ana") is None


def test_the_audit_says_that_it_was_done(store: SqlStore) -> None:
    """The audit keeps that a row was erased and by whom, and nothing of which one; a chain that was
    whole before stays whole."""
    store.add_command("pause", by="anna")
    store.append_predictions([asked(1)])
    assert store.erase(key=hash_of("b"), by="berta") is not None
    _, entry = store.audit()
    assert (entry.act, entry.by, entry.role, entry.detail) == ("erase", "berta", "operate", "{}")
    assert store.verify_audit().broken == 0
