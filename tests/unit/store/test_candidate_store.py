"""The tables of candidates: who comes second changes nothing, and nothing outlives its request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bento_selfheal.core.candidates.candidate import (
    Candidate,
    CandidatePrediction,
    CandidateState,
)
from bento_selfheal.errors import CommandError
from bento_selfheal.store import SqlStore


def test_one_at_a_time_of_each_package(store: SqlStore) -> None:
    """Many candidates at once, but a package once; it may come again once it has ended."""
    first = store.add_candidate(Candidate("a:1"))
    store.add_candidate(Candidate("b:1"))
    with pytest.raises(CommandError, match="a:1 is a candidate already"):
        store.add_candidate(Candidate("a:1"))
    assert store.move_candidate(first, CandidateState.WITHDRAWN, 0, "by hand", by="anna")
    again = store.add_candidate(Candidate("a:1"))
    assert [c.id for c in store.candidates(living=True)] == [2, again.id]
    assert [c.tag for c in store.candidates()] == ["a:1", "b:1", "a:1"]


def test_who_comes_second_changes_nothing(store: SqlStore) -> None:
    """The runner's step does not undo an operator's withdrawal."""
    candidate = store.add_candidate(Candidate("a:1"))
    assert store.move_candidate(candidate, CandidateState.WITHDRAWN, 0, "by hand", by="anna")
    assert not store.move_candidate(candidate, CandidateState.RUNNING, 1, "no harm")
    [now] = store.candidates()
    assert (now.state, now.step, now.by, now.share) == (CandidateState.WITHDRAWN, 0, "anna", 0.0)
    assert [e.kind for e in store.events()] == ["candidate_begun", "candidate_withdrawn"]
    stale = replace(now, step=3)
    assert not store.move_candidate(stale, CandidateState.PROMOTED, 4, "")


def test_counts_of_all_processes_add_up(store: SqlStore) -> None:
    """A process that reports again replaces what it said; the newest error stays."""
    store.report_candidate(1, "a", {"answered": 3, "error": "old"})
    store.report_candidate(1, "a", {"answered": 5, "error": "first"})
    store.report_candidate(1, "b", {"answered": 2, "error": "then"})
    store.report_candidate(2, "b", {"answered": 9})
    assert store.candidate_counts(1) == {"answered": 7, "error": "then"}
    assert store.candidate_counts(3) == {}


def test_what_was_said_goes_when_its_requests_are_old(store: SqlStore) -> None:
    """Without a log of that age nothing is kept of what a candidate said of it."""
    for n, time in enumerate((100.0, 1e9)):
        said = CandidatePrediction(1, bytes([n]) * 12, np.ones(2, np.float32), False, time)
        store.append_candidate_predictions([said])
    store.append_candidate_predictions([])
    assert store.retire_candidate_predictions(10) == 0  # nothing is logged: nothing is known
