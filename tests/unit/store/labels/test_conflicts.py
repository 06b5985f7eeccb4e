"""Which of several labels of one row stands, and who may take one back, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import func, select

from bento_selfheal.core.labels import NO_LABEL
from bento_selfheal.core.records import WAITS, FeedbackOutcome, FeedbackRecord
from bento_selfheal.store import SqlStore
from bento_selfheal.store import tables as t
from bento_selfheal.store.labels.conflicts import (
    MOST_REVISIONS,
    MOST_VOTES,
    ConflictRule,
    Policy,
)

ROW = b"r" * 12


@pytest.fixture
def store(fresh: Callable[[], str]) -> Iterator[SqlStore]:
    store = SqlStore(fresh())
    store.create()
    yield store
    store.close()


def says(source: str | None, label: int, *, corrects: bool = False) -> FeedbackRecord:
    return FeedbackRecord(ROW, 0, label, 1.0, source, corrects=corrects)


def back(source: str | None) -> FeedbackRecord:
    return says(source, NO_LABEL)


def stands(store: SqlStore) -> tuple[int, str | None]:
    """The label that stands in the log, and who gave it."""
    newest = [e for e in store.read_log(0, 0, 1000) if isinstance(e, FeedbackRecord)][-1]
    return newest.label, newest.source


def told(store: SqlStore, rule: ConflictRule, *given: FeedbackRecord) -> list[str]:
    """The outcomes of labels that come one after the other."""
    store.rule = rule
    return [store.add_feedback([one]).outcomes[0].value for one in given]


@pytest.mark.parametrize(
    ("policy", "outcome", "label"),
    [("first", "conflict", 0), ("last", "accepted", 1), ("votes", "conflict", 0),
     ("priority", "conflict", 0)],
)  # fmt: skip
def test_two_desks_disagree(store: SqlStore, policy: Policy, outcome: str, label: int) -> None:
    """By default the first label stands, by `last` the newest; a tie of votes, and sources of one
    rank, change nothing."""
    rule = ConflictRule(policy)
    assert told(store, rule, says("a", 0), says("b", 1)) == ["accepted", outcome]
    assert stands(store)[0] == label


def test_most_votes(store: SqlStore) -> None:
    """The label that most sources give stands, each with one vote, in one request or in several;
    a source changes its vote with `corrects` only."""
    rule = ConflictRule("votes")
    assert told(store, rule, says("a", 0), says("b", 1), says("b", 1), says("c", 1)) == [
        "accepted", "conflict", "conflict", "accepted",
    ]  # fmt: skip
    assert stands(store) == (1, "c")
    assert told(store, rule, says("c", 0)) == ["conflict"]
    assert stands(store)[0] == 1
    assert told(store, rule, says("c", 0, corrects=True)) == ["accepted"]
    assert stands(store)[0] == 0
    result = store.add_feedback([says("d", 1), says("e", 1)])
    assert [o.value for o in result.outcomes] == ["conflict", "accepted"]
    assert stands(store) == (1, "e")


def test_votes_after_the_policy_is_set(store: SqlStore) -> None:
    """A label of before counts as a vote of who gave it, who takes it back like any other."""
    store.add_feedback([says("a", 0)])
    rule = ConflictRule("votes")
    assert told(store, rule, says("b", 1)) == ["conflict"]
    assert told(store, rule, back("a")) == ["accepted"]
    assert stands(store) == (1, "b")


def test_a_vote_is_withdrawn(store: SqlStore) -> None:
    """A vote that is taken back counts no more, also where the label stays; the last one leaves
    none."""
    rule = ConflictRule("votes")
    told(store, rule, says("a", 0), says("b", 0), says("c", 1))
    assert told(store, rule, back("b"), back("b"), back("x")) == [
        "accepted", "conflict", "conflict"
    ]  # fmt: skip
    assert stands(store)[0] == 0
    assert told(store, rule, back("a"), back("c")) == ["accepted", "accepted"]
    assert stands(store)[0] == NO_LABEL


def test_priority(store: SqlStore) -> None:
    """A source that is trusted more replaces what others say, and nobody below it does, whatever
    it corrects; among equals the first stands until one corrects it."""
    rule = ConflictRule("priority", ("audit", "desk"))
    assert told(store, rule, says("web", 0), says("app", 1), says("app", 1, corrects=True)) == [
        "accepted", "conflict", "accepted",
    ]  # fmt: skip
    assert told(store, rule, says("audit", 0), says("desk", 1, corrects=True)) == [
        "accepted", "conflict",
    ]  # fmt: skip
    assert stands(store) == (0, "audit")
    both = store.add_feedback([says("audit", 1, corrects=True), says(None, 0)])
    assert [o.value for o in both.outcomes] == ["accepted", "conflict"]
    assert stands(store) == (1, "audit")


@pytest.mark.parametrize("policy", ["first", "last", "priority"])
def test_only_the_own_label_is_taken_back(store: SqlStore, policy: Policy) -> None:
    """Whoever gave a label takes it back, once; another's is in conflict, and a new one counts."""
    rule = ConflictRule(policy)
    assert told(store, rule, back("a"), says("a", 1), back("b"), back(None)) == [
        "known", "accepted", "conflict", "conflict",
    ]  # fmt: skip
    assert told(store, rule, back("a"), back("a")) == ["accepted", "known"]
    assert stands(store) == (NO_LABEL, "a")
    assert told(store, rule, says("b", 0), back("a"), back("b")) == [
        "accepted", "conflict", "accepted",
    ]  # fmt: skip


def test_a_correction_belongs_to_who_sends_it(store: SqlStore) -> None:
    """A label that another source corrected is that one's to take back, in one request too."""
    given = [says("a", 1), says("b", 0, corrects=True), back("a"), back("b")]
    outcomes = [o.value for o in store.add_feedback(given).outcomes]
    assert outcomes == ["accepted", "accepted", "conflict", "accepted"]


def test_taken_back_by_key(store: SqlStore) -> None:
    """A label that waits for its prediction is taken back by its key."""
    key = b"k" * 16
    label = FeedbackRecord(key[:12], WAITS, 1, 1.0, "a", key=key)
    gone = FeedbackRecord(key[:12], WAITS, NO_LABEL, 1.0, "a", key=key)
    other = FeedbackRecord(key[:12], WAITS, NO_LABEL, 1.0, "b", key=key)
    assert told(store, ConflictRule(), label, other, gone) == ["accepted", "conflict", "accepted"]


@pytest.mark.parametrize("policy", ["first", "last"])
def test_revisions_are_bounded(store: SqlStore, policy: Policy) -> None:
    """A row has so many labels at most; then it is named, others go on, and the last label can
    still be taken back."""
    store.rule = rule = ConflictRule(policy)
    many = [says("a", i % 2, corrects=True) for i in range(MOST_REVISIONS + 20)]
    result = store.add_feedback(many)
    assert result.full == set(range(MOST_REVISIONS, MOST_REVISIONS + 20, 2))
    assert result.outcomes[:MOST_REVISIONS] == [FeedbackOutcome.ACCEPTED] * MOST_REVISIONS
    kept = len([e for e in store.read_log(0, 0, 1000) if isinstance(e, FeedbackRecord)])
    assert kept == MOST_REVISIONS
    assert told(store, rule, back("a")) == ["accepted"]
    assert store.add_feedback([says("a", 1)]).full == {0}


def test_votes_are_bounded(store: SqlStore) -> None:
    """However many sources are invented, one row has so many votes at most."""
    store.rule = ConflictRule("votes")
    store.add_feedback([says(f"s{i}", 1) for i in range(MOST_VOTES + 50)])
    with store._db.read() as c:
        assert c.execute(select(func.count()).select_from(t.votes)).scalar() == MOST_VOTES


def test_votes_are_retired_with_labels(store: SqlStore) -> None:
    """Votes stay no longer than labels."""
    store.rule = ConflictRule("votes")
    store.add_feedback([says("a", 1)])
    store.retire_feedback(before=2.0, limit=10)
    with store._db.read() as c:
        assert c.execute(select(func.count()).select_from(t.votes)).scalar() == 0
