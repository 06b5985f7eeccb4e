"""The bets on segments: leaving out, releasing, and what a checkpoint keeps of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bento_selfheal.healing.segments.harm import SegmentGuard

ONES = np.ones(25)


def fed(guard: SegmentGuard, harm: float, *, served: bool = False, batches: int = 80) -> list[int]:
    """Labels of segment 1 of 3 that all lose this much; places that changed first."""
    members = np.zeros((25, 3), dtype=bool)
    members[:, 1] = True
    take = guard.watch_served if served else guard.try_challenger
    for _ in range(batches):
        if changed := take(members, np.full(25, harm), ONES):
            for place in changed:
                guard.begin_test(place)
            return changed
    return []


def test_harm_after_the_promotion_leaves_out_too() -> None:
    """What was served is bet on as what is on trial; a segment that is left out already takes no
    more of it, as those rows were served before."""
    guard = SegmentGuard(3, 0.05)
    assert fed(guard, 0.2, served=True) == [1]
    assert guard.left == [False, True, False]
    assert fed(guard, 0.2, served=True) == []


def test_a_release_costs_a_share_of_alpha() -> None:
    """A segment comes back once healing is better there, not where it is merely as good; its next
    test may spend a third of what the first might."""
    guard = SegmentGuard(3, 0.05)
    first = guard.level(1)
    fed(guard, 0.2)
    assert fed(guard, 0.0) == []
    assert guard.left[1]
    assert fed(guard, -0.2) == [1]
    assert not guard.left[1]
    assert guard.level(1) == pytest.approx(first / 3)
    assert guard.level(0) == first


def test_all_tests_together_spend_alpha() -> None:
    """However often each segment is tested, what its tests may spend sums to alpha."""
    guard, spent = SegmentGuard(3, 0.05), 0.0
    for test in range(1, 2000):
        guard.tests = [test] * 3
        spent += sum(guard.level(place) for place in range(3))
    assert 0.049 < spent < 0.05


def test_a_new_line_tests_anew() -> None:
    """Where something else is replaced, nothing is left out, and only begun tests are spent."""
    guard = SegmentGuard(3, 0.05)
    fed(guard, 0.2)
    fed(guard, 0.0, batches=1)
    guard.begin_line()
    assert guard.left == [False] * 3
    assert guard.tests == [1, 2, 1]
    assert guard.trial[1].process.count == 0


def test_a_checkpoint_goes_on_to_the_bit() -> None:
    """A guard that was put back from JSON decides as the one that went on."""
    guard, again = SegmentGuard(3, 0.05), SegmentGuard(3, 0.05)
    fed(guard, 0.2)
    fed(guard, -0.11, batches=2)
    for place in range(3):
        again.restore(place, json.loads(json.dumps(guard.state(place))))
    for one in (guard, again):
        fed(one, -0.13, batches=3)
    assert [guard.state(i) for i in range(3)] == [again.state(i) for i in range(3)]
