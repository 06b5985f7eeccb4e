"""The same number of alarms for every model: who finds more with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bento_selfheal.scoring.alarms import Alarms, raise_alarms


def floats(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(values, dtype=np.float32)


def test_flagging_everybody_finds_no_more() -> None:
    """A model that is sure of fraud everywhere gets no more alarms than one that ranks well: its
    alarms go to the rows that came first."""
    labels = np.asarray([0, 0, 0, 0, 1, 1, 0, 0, 0, 0])
    floods, ranks = np.full(10, 0.99), np.where(labels == 1, 0.02, 0.01)
    assert raise_alarms(floods, labels, [0.2]) == Alarms(raised=2, right=0, due=2)
    assert raise_alarms(ranks, labels, [0.2]) == Alarms(raised=2, right=2, due=2)


def test_nobody_waits_for_the_end() -> None:
    """Alarms are shared out in batches of 100 rows: high scores late in the stream take none from
    the batch before."""
    labels = np.concatenate([np.eye(1, 100, 3)[0], np.zeros(100)]).astype(int)
    told = np.concatenate([0.4 * labels[:100], np.full(100, 0.9)])
    assert raise_alarms(told, labels, [0.01]) == Alarms(raised=2, right=1, due=1)


def test_rare_alarms_add_up() -> None:
    """Less than one alarm a batch is one every few batches, and the total is as asked."""
    assert raise_alarms(np.zeros(1000), np.ones(1000), [0.004]).raised == 4
    assert raise_alarms(np.zeros(1050), np.ones(1050), [0.15]).raised == round(0.15 * 1050)


def test_each_of_many_classes_is_looked_for_in_turn() -> None:
    """Every class may be named as often as its share; one that hides behind another is missed."""
    labels = np.asarray([0, 0, 1, 2])
    told = floats(0.6, 0.3, 0.1, 0.5, 0.2, 0.3, 0.1, 0.8, 0.1, 0.4, 0.25, 0.35).reshape(4, 3)
    assert raise_alarms(told, labels, [0.5, 0.25, 0.25]) == Alarms(raised=4, right=4, due=4)
    wrong = told[:, [1, 2, 0]]
    assert raise_alarms(wrong, labels, [0.5, 0.25, 0.25]).right < 4


def test_one_share_a_class() -> None:
    """Shares that do not fit the classes are a mistake, not a figure."""
    with pytest.raises(ValueError, match="zip"):
        raise_alarms(np.full((2, 3), 1 / 3), np.asarray([0, 1]), [0.5])


def test_shares_of_nothing() -> None:
    """Without alarms, or without rows to find, shares are 0 and never a division by zero."""
    none = raise_alarms(floats(0.1), np.asarray([0]), [0.0])
    assert (none.recall, none.precision) == (0.0, 0.0)
    some = Alarms(raised=4, right=1, due=2)
    assert (some.recall, some.precision) == (0.5, 0.25)


rows = st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 1)), min_size=1, max_size=250)


@given(rows, st.floats(0, 1))
def test_a_perfect_ranking_is_never_beaten(rows: list[tuple[float, int]], share: float) -> None:
    """Counts stay within what there is, and no ranking finds more than the true one."""
    told, labels = floats(*(p for p, _ in rows)), np.asarray([y for _, y in rows])
    found, best = raise_alarms(told, labels, [share]), raise_alarms(labels, labels, [share])
    assert found.raised == best.raised == round(share * len(rows))
    assert found.right <= best.right <= min(best.raised, best.due)
