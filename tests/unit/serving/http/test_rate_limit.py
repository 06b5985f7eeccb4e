"""How many labels are taken in a minute, by source and by token."""

from __future__ import annotations

import pytest

from bento_selfheal.serving.http.rate_limit import LabelRateLimit
from bento_selfheal.wire.messages import FeedbackItem


def items(n: int, source: str | None = None) -> list[FeedbackItem]:
    return [FeedbackItem(label=1, prediction_id="x", source=source) for _ in range(n)]


def test_by_source() -> None:
    """A source's labels are taken up to its bound; others, and the next minute, are not its."""
    rate_limit = LabelRateLimit(10, 0)
    assert rate_limit.take(items(10, "s"), "desk") is None
    wait = rate_limit.take(items(1, "s"), "desk")
    assert wait is not None
    assert 1 <= wait.seconds <= 120
    assert "source 's': rate limit: at most 10 labels per minute" in wait.why
    assert rate_limit.take(items(10, "t"), "desk") is None
    assert rate_limit.take(items(100), "desk") is None


def test_by_token() -> None:
    """Whoever invents sources is bounded by his token."""
    rate_limit = LabelRateLimit(10, 30)
    assert all(rate_limit.take(items(10, f"s{n}"), "desk") is None for n in range(3))
    wait = rate_limit.take(items(1, "s3"), "desk")
    assert wait is not None
    assert "token 'desk'" in wait.why
    assert rate_limit.take(items(1, "s3"), "web") is None


def test_all_or_none() -> None:
    """A request that is refused counts for nobody."""
    rate_limit = LabelRateLimit(10, 0)
    for _ in range(3):
        assert rate_limit.take([*items(10, "s"), *items(11, "t")], "desk") is not None
    assert rate_limit.take(items(10, "s"), "desk") is None


@pytest.mark.parametrize("of_source", [0, 5])
def test_no_bound(of_source: int) -> None:
    """Without a bound everything is taken."""
    assert LabelRateLimit(of_source, 0).take(items(100_000), "desk") is None
