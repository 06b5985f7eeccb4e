"""The limit: a retrain is asked for when healing stays too far off, or is worth nothing."""

from __future__ import annotations

from bento_selfheal.healing.evidence.retrain import BATCHES_KEPT, LATELY, RetrainAdvice

BATCHES = 20


def advice_of(lifts: list[float], reached: list[float]) -> RetrainAdvice:
    advice = RetrainAdvice(target_accuracy=0.8, batches=BATCHES)
    for lift, accuracy in zip(lifts, reached, strict=True):
        advice.labelled(lift, accuracy)
    return advice


def test_too_few_batches() -> None:
    """Nothing is said before enough labelled batches have come."""
    few = BATCHES - 1
    assert advice_of([-0.2] * few, [0.1] * few).update(promoted=True) == ""


def test_far_from_what_is_asked() -> None:
    """A retrain is asked for while mean and newest batches alike fall short of what is asked."""
    low = advice_of([0.1] * BATCHES, [0.6] * BATCHES)
    assert low.update(promoted=True) == "the challenger's accuracy is 0.600, 0.800 is asked for"
    for _ in range(LATELY):
        low.labelled(0.1, 0.9)
    assert low.update(promoted=True) == low.retrain == ""


def test_faded_lift() -> None:
    """What healing served does worse than the shadow; nothing promoted can have faded."""
    faded = advice_of([-0.1, -0.2] * (BATCHES // 2), [0.9] * BATCHES)
    assert faded.update(promoted=False) == ""
    assert faded.update(promoted=True).startswith("lift has faded to -0.150 [-")


def test_bounded() -> None:
    """A year of batches leaves no more than the newest behind."""
    many = advice_of([0.0] * (BATCHES_KEPT + 5), [0.9] * (BATCHES_KEPT + 5))
    assert len(many.lifts) == len(many.reached) == BATCHES_KEPT
