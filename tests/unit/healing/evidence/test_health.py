"""Health: when later labels ask for a rollback."""

from __future__ import annotations

import pytest

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.records import Phase, Snapshot
from bento_selfheal.healing.evidence.health import Alarm, Health, better
from bento_selfheal.scoring.scores import Scores, telling_figures

DEFAULT = Thresholds()


def healed(accuracy: float = 0.9, f1: float = 0.5, window: int = 5) -> Health:
    health = Health(window)
    health.begin(accuracy, f1)
    return health


def feed(health: Health, accuracy: float, f1: float, times: int = 3) -> list[Alarm | None]:
    return [health.update(accuracy, f1, DEFAULT) for _ in range(times)]


def test_not_before_three_batches() -> None:
    """However bad the first two batches are, the third is the first that can ask."""
    alarms = feed(healed(), 0.0, 0.0)
    assert alarms[:2] == [None, None]
    assert alarms[2] is not None


def test_not_before_the_first_heal() -> None:
    """Without a baseline there is nothing to fall from."""
    assert feed(Health(5), 0.0, 0.0, 9) == [None] * 9


def test_f1_alone_asks() -> None:
    """F1 more than rollback_f1_drop below the baseline asks, though accuracy holds."""
    alarm = feed(healed(f1=0.5), 0.9, 0.41)[-1]
    assert alarm is not None
    assert alarm.metrics == ("f1",)
    assert alarm.reason == "f1 0.410 is 0.090 below its baseline 0.500"


def test_accuracy_alone_asks() -> None:
    """Accuracy more than rollback_acc_drop below the baseline asks, though F1 holds."""
    alarm = feed(healed(accuracy=0.9), 0.79, 0.5)[-1]
    assert alarm is not None
    assert alarm.metrics == ("accuracy",)


@pytest.mark.parametrize(("accuracy", "f1"), [(0.81, 0.5), (0.9, 0.43), (0.99, 0.99)])
def test_small_falls_are_borne(accuracy: float, f1: float) -> None:
    """A fall within the thresholds, or a rise, asks for nothing."""
    assert feed(healed(0.9, 0.5), accuracy, f1, 6) == [None] * 6


def test_exact_threshold_is_borne() -> None:
    """A fall of exactly the threshold is still allowed: only more asks."""
    health = healed(1.0, 0.5)
    thresholds = Thresholds(rollback_f1_drop=0.25, rollback_acc_drop=0.25)
    assert [health.update(0.75, 0.25, thresholds) for _ in range(3)] == [None] * 3


def test_rolling_mean_counts() -> None:
    """It is the mean over the window that falls: one bad batch is outweighed, then forgotten."""
    health = healed(f1=0.5, window=5)
    feed(health, 0.9, 0.5, 4)
    assert health.update(0.9, 0.2, DEFAULT) is None
    assert list(health.recent).count((0.9, 0.2)) == 1
    feed(health, 0.9, 0.5, 5)
    assert (0.9, 0.2) not in health.recent


def test_thresholds_are_taken_at_each_batch() -> None:
    """Other thresholds are in force from the next batch on."""
    health = healed(f1=0.5)
    strict = Thresholds(rollback_f1_drop=0.03)
    assert feed(health, 0.9, 0.45)[-1] is None
    assert health.update(0.9, 0.45, strict) is not None


def test_baseline_is_the_first_heal() -> None:
    """Later heals do not move the baseline."""
    health = healed(0.9, 0.5)
    health.begin(0.1, 0.1)
    assert health.baseline == (0.9, 0.5)


def test_of_many_classes_accuracy_alone_asks() -> None:
    """F1 would be how well the first class is told from the others; it may fall, and be lower in
    what is gone back to."""
    figures = telling_figures(3)
    calm, fallen = Health(5, figures), Health(5, figures)
    for health in (calm, fallen):
        health.begin(0.9, 0.9)
    assert feed(calm, 0.9, 0.1, 9) == [None] * 9
    alarm = feed(fallen, 0.5, 0.1)[-1]
    assert alarm is not None
    assert alarm.reason == "accuracy 0.500 is 0.400 below its baseline 0.900"
    other = Snapshot(2, "a:2", Phase.POST, "ab", 1, 1, "healed", 0.0)
    now, kept = Scores(tp=50, tn=0, fp=50, fn=0), {other: Scores(tp=0, tn=80, fp=0, fn=20)}
    assert better(kept, now, alarm, DEFAULT, figures) == other
    assert better(kept, now, alarm, DEFAULT, telling_figures(2)) is None


def test_restart() -> None:
    """A restart forgets the window, and the baseline unless it is to be kept."""
    health = healed(0.9, 0.5)
    feed(health, 0.9, 0.5)
    health.restart(keep_baseline=True)
    assert (len(health.recent), health.baseline) == (0, (0.9, 0.5))
    assert feed(health, 0.0, 0.0, 2) == [None, None]
    health.restart()
    assert health.baseline is None
