"""A runner that is behind is seen by those who read the store, with the reason and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from bento_selfheal.serving.reporting.backlog import BEHIND_SECONDS, Backlog, Unread, lag


class Logs:
    """Where both logs end, how far a runner has read, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.ends = [0, 0, 0]
        self.read = {"predictions": 0, "feedback": 0}
        self.backlog = Backlog(lambda: (self.ends[0], self.ends[1], 0), lambda: self.now)

    def look(self) -> Unread:
        return self.backlog.look({"cursors": self.read})


@pytest.mark.parametrize(("place", "cursor"), [(0, "predictions"), (1, "feedback")])
def test_a_runner_that_has_stopped(place: int, cursor: str) -> None:
    """The oldest unread entry is as old as the first look that saw it."""
    logs = Logs()
    assert logs.look() == Unread(0, 0, 0.0)
    for second in range(100):
        logs.now, logs.ends[place] = 1000.0 + second, 10 * (second + 1)
        assert logs.look().seconds == second
    assert logs.look().behind
    logs.read[cursor] = 950  # what came in the first 95 seconds
    assert logs.look().seconds == 4
    assert not logs.look().behind
    logs.read[cursor] = 1000
    assert logs.look() == Unread(0, 0, 0.0)


def test_a_steady_stream_that_is_read() -> None:
    """However much comes, a runner a few seconds behind is not behind; the notes stay few."""
    logs = Logs()
    for second in range(5000):
        logs.now, logs.ends = 1000.0 + second, [7 * second, 5 * second, 0]
        logs.read = {"predictions": 7 * max(second - 3, 0), "feedback": 5 * max(second - 3, 0)}
        assert logs.look().seconds <= 3


def test_a_long_standstill_keeps_its_age() -> None:
    """A day without a look at the log by the runner is a day, whatever is kept in memory of it."""
    logs = Logs()
    for minute in range(24 * 60):
        logs.now, logs.ends = 1000.0 + 60 * minute, [minute + 1, minute + 1, 0]
        logs.look()
    assert logs.look().seconds == 60 * (24 * 60 - 1)


LATE = Unread(3, 2800, BEHIND_SECONDS + 1)


@pytest.mark.parametrize(
    ("status", "alive", "reason", "advice"),
    [
        ({"cpu": {"share": 0.035}}, True, "gets 3.5% of the processor time", "RUNNER_NICE"),
        ({"cpu": {"share": 0.035}}, False, "no runner leads", "HealingRunner"),
        ({"cpu": {"share": 0.9}}, True, "come faster", "SELFHEAL_HEAL_SHARE"),
        ({}, True, "come faster", "SELFHEAL_HEAL_SHARE"),
        ({"trouble": "failed 5 times"}, True, "its steps fail", "trouble"),
    ],
)
def test_why(status: dict[str, Any], alive: bool, reason: str, advice: str) -> None:
    """The reason is told, and what to change."""
    said = lag(status, LATE, alive=alive)
    assert said is not None
    assert said["seconds"] == LATE.seconds
    assert reason in said["reason"]
    assert advice in said["advice"]
    assert lag(status, Unread(3, 2800, 2.0), alive=alive) is None
