"""The review queue in the store, on both databases: one person a row, and so many a day."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import func, select

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import WAITS, FeedbackRecord, PredictionRecord
from bento_selfheal.core.review.asked_row import DAY, AskedRow
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.store import tables as t
from bento_selfheal.store.labels.asked import LEASE_SECONDS, MOST_WAITING

ROWS = 8
NOW = 100 * DAY + 5.0
REQUEST = b"r" * 12
KEYS = [f"key-{i}".encode().ljust(16, b".") for i in range(ROWS)]


@pytest.fixture
def store(fresh: Callable[[], str]) -> Iterator[SqlStore]:
    """A store with one request of eight rows, which have keys of their own."""
    store = SqlStore(fresh())
    store.create()
    store.begin_status({})
    features = np.arange(2 * ROWS, dtype=np.float32).reshape(ROWS, 2)
    said = np.linspace(0, 1, ROWS, dtype=np.float32)
    store.append_predictions(
        [PredictionRecord(REQUEST, features, said, 1, NOW, keys=b"".join(KEYS))]
    )
    yield store
    store.close()


def ask(store: SqlStore, *rows: AskedRow) -> None:
    """Put rows into the queue as the runner does, in a step of its own."""
    token = store.acquire_lease("runner", 60.0)
    assert token is not None
    store.commit(token, StepRecord(b"", {}, asked=list(rows)))


def asked(row: int, turn: float | None = None, request: bytes = REQUEST) -> AskedRow:
    turn = row / 100 if turn is None else turn
    return AskedRow(request, row, 0.25, turn, "drawn by chance", NOW)


def given(store: SqlStore, most: int, now: float = NOW, budget: int | None = None) -> list[int]:
    return [one.asked.row for one in store.hand_out(most, now, budget).rows]


def label(store: SqlStore, row: int, index: int = 1, *, by_key: bool = False) -> None:
    key = KEYS[row] if by_key else None
    place = (KEYS[row][:12], WAITS) if by_key else (REQUEST, row)
    store.add_feedback([FeedbackRecord(*place, index, NOW, "desk", key=key)])


def test_in_turn_and_to_one_person_each(store: SqlStore) -> None:
    """Rows go out by their turns, with what was asked and answered; two people have no row in
    common; a row that nobody labelled comes back when its time is over."""
    ask(store, *(asked(row, turn=(ROWS - row) / 10) for row in range(ROWS)))
    first = store.hand_out(3, NOW).rows
    assert [one.asked.row for one in first] == [7, 6, 5]
    assert first[0].features.tolist() == [[14.0, 15.0]]
    assert (first[0].rows, first[0].probabilities.tolist()) == (ROWS, [1.0])
    assert first[0].asked.chance == 0.25
    assert given(store, 9) == [4, 3, 2, 1, 0]
    assert given(store, 9) == []
    label(store, 6)
    assert given(store, 9, NOW + LEASE_SECONDS - 1) == []
    assert given(store, 2, NOW + LEASE_SECONDS + 1) == [7, 5]


def test_people_who_ask_at_once(store: SqlStore) -> None:
    """However many ask at once, nobody gets what another has, and the budget holds."""
    ask(store, *map(asked, range(ROWS)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: given(store, 2, budget=5), range(6)))
    rows = [row for part in found for row in part]
    assert sorted(rows) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("by_key", [False, True], ids=["by id", "by key"])
def test_labelled_rows_leave(store: SqlStore, by_key: bool) -> None:
    """A row that has a label, however it was named, is shown to nobody and takes nothing of the
    budget; one whose label was taken back is shown."""
    ask(store, *map(asked, range(4)))
    label(store, 0, by_key=by_key)
    label(store, 1, by_key=by_key)
    store.add_feedback([FeedbackRecord(REQUEST, 1, NO_LABEL, NOW, "desk")])
    found = store.hand_out(9, NOW, 10)
    assert [one.asked.row for one in found.rows] == [1, 2, 3]
    assert found.left == 7


def test_a_day_has_its_budget(store: SqlStore) -> None:
    """No more rows than the budget go out in a day of UTC; what is given again counts once."""
    ask(store, *map(asked, range(ROWS)))
    assert store.hand_out(2, NOW, 3).left == 1
    assert given(store, 9, budget=3) == [2]
    assert store.hand_out(9, NOW, 3).left == 0
    assert given(store, 9, NOW + LEASE_SECONDS + 1, budget=3) == [0, 1, 2]
    assert given(store, 9, NOW + DAY / 2, budget=4) == [0, 1, 2, 3]
    label(store, 0)
    tomorrow = 101 * DAY
    assert given(store, 9, tomorrow + 1, budget=3) == [1, 2, 3]
    assert store.hand_out(9, tomorrow + 2, 3).left == 0


def test_labels_give_no_budget_back(store: SqlStore) -> None:
    """What was labelled counts in its day's budget, also once its time is over."""
    ask(store, *map(asked, range(ROWS)))
    assert given(store, 9, budget=3) == [0, 1, 2]
    for row in range(3):
        label(store, row)
    late = store.hand_out(9, NOW + LEASE_SECONDS + 1, 3)
    assert ([one.asked.row for one in late.rows], late.left) == ([], 0)
    assert given(store, 9, 101 * DAY, budget=3) == [3, 4, 5]


def test_rows_of_several_requests(store: SqlStore) -> None:
    """Rows go out by their turns, whichever requests they are of; each with its own values, and
    without those that have a label."""
    other = b"s" * 12
    store.append_predictions(
        [PredictionRecord(other, np.full((1, 2), 9, np.float32), np.ones(1, np.float32), 1, NOW)]
    )
    ask(store, asked(3, 0.1), asked(0, 0.2, other), asked(1, 0.3), asked(2, 0.4))
    label(store, 1, by_key=True)
    found = store.hand_out(9, NOW).rows
    shown = [(one.asked.request, one.asked.row, one.features.tolist()) for one in found]
    assert shown == [(REQUEST, 3, [[6, 7]]), (other, 0, [[9, 9]]), (REQUEST, 2, [[4, 5]])]


def test_rows_wait_for_a_day(store: SqlStore) -> None:
    """What nobody has looked at for a day leaves the queue, and so do rows that the log has not."""
    ask(store, asked(0), asked(1), asked(0, 0.0, b"s" * 12))
    assert given(store, 9, NOW + DAY - 1) == [0, 1]
    ask(store, asked(2))
    assert given(store, 9, NOW + DAY + 1) == []


def test_the_queue_is_bounded(store: SqlStore) -> None:
    """Of too many rows those that came first leave, but for what counts in today's budget."""
    ask(store, asked(0))
    assert given(store, 1) == [0]
    ask(store, *(asked(1, 0.5) for _ in range(MOST_WAITING + 10)))
    with store._db.read() as c:
        count = c.execute(select(func.count()).select_from(t.review_rows)).scalar_one()
    assert count == MOST_WAITING + 1
    assert store.hand_out(1, NOW, 5).left == 3
