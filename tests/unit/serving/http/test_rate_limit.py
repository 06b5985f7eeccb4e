"""How many labels are taken in a minute, by source and by token."""

from __future__ import annotations

import pytest

from bento_selfheal.serving.http.rate_limit import LabelRateLimit
from bento_selfheal.store import SqlStore
from bento_selfheal.wire.messages import FeedbackItem


def items(n: int, source: str | None = None) -> list[FeedbackItem]:
    return [FeedbackItem(label=1, prediction_id="x", source=source) for _ in range(n)]


def test_by_source(store: SqlStore) -> None:
    """A source's labels are taken up to its bound; others, and the next minute, are not its."""
    rate_limit = LabelRateLimit(store, 10, 0)
    assert rate_limit.take(items(10, "s"), "desk") is None
    wait = rate_limit.take(items(1, "s"), "desk")
    assert wait is not None
    assert 1 <= wait.seconds <= 120
    assert "source 's': rate limit: at most 10 labels per minute" in wait.why
    assert rate_limit.take(items(10, "t"), "desk") is None
    assert rate_limit.take(items(100), "desk") is None


def test_by_token(store: SqlStore) -> None:
    """Whoever invents sources is bounded by his token."""
    rate_limit = LabelRateLimit(store, 10, 30)
    assert all(rate_limit.take(items(10, f"s{n}"), "desk") is None for n in range(3))
    wait = rate_limit.take(items(1, "s3"), "desk")
    assert wait is not None
    assert "token 'desk'" in wait.why
    assert rate_limit.take(items(1, "s3"), "web") is None


def test_all_or_none(store: SqlStore) -> None:
    """A request that is refused counts for nobody."""
    rate_limit = LabelRateLimit(store, 10, 0)
    for _ in range(3):
        assert rate_limit.take([*items(10, "s"), *items(11, "t")], "desk") is not None
    assert rate_limit.take(items(10, "s"), "desk") is None


@pytest.mark.parametrize("of_source", [0, 5])
def test_no_bound(store: SqlStore, of_source: int) -> None:
    """Without a bound everything is taken."""
    assert LabelRateLimit(store, of_source, 0).take(items(100_000), "desk") is None


def test_workers_count_together(store: SqlStore) -> None:
    """A source has one limit, whichever worker its labels reach, and the next minute another."""
    other = SqlStore(store.url)
    workers = [LabelRateLimit(one, 10, 0) for one in (store, other)]
    taken = [workers[i % 2].take(items(2, "s"), "desk") is None for i in range(8)]
    assert sum(taken) == 5
    other.close()


def test_the_window_slides(store: SqlStore) -> None:
    """Labels of the minute before count for as long as part of it is less than a minute ago."""

    def fits(count: int, now: float) -> bool:
        return store.count_labels({"s": (count, 10)}, now) is None

    assert [fits(10, 600.0), fits(1, 630.0), fits(6, 690.0), fits(5, 690.0)] == [
        True, False, False, True,
    ]  # fmt: skip
    assert [fits(6, 719.0), fits(10, 900.0)] == [False, True]
