"""What becomes of a candidate, by labels that come later and by what it failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.core.candidates.candidate import Candidate, CandidateState, check_ramp
from bento_selfheal.healing.candidates.trial import MOST_LABELS, CandidateTrial, Move, failing
from bento_selfheal.healing.candidates.trials import CandidateTrials

ALPHA = 0.05
COSTS = Thresholds()


def said(labels: Any, accuracy: float, generator: np.random.Generator) -> Any:
    """Probabilities of 0.2 or 0.8 that are right so often."""
    right = generator.random(len(labels)) < accuracy
    return np.where(right == (labels == 1), 0.8, 0.2).astype(np.float32)


def after(champion: float, candidate: float, labels: int, seed: int = 3) -> CandidateTrial:
    """A trial of a champion and a candidate that are right so often."""
    generator, trial = np.random.default_rng(seed), CandidateTrial()
    truth = generator.integers(0, 2, labels).astype(np.float32)
    old, new = (said(truth, one, generator) for one in (champion, candidate))
    trial.update(old, new, truth, COSTS)
    return trial


def test_better_is_promoted_at_the_last_step_only() -> None:
    """Before it, a candidate that does no harm goes a step on."""
    trial = after(0.6, 0.9, 500)
    ramp = (0.0, 50.0, 100.0)
    move, why = trial.judge(Candidate("a:1", ramp), ALPHA, {})
    assert (move, why) == (Move.STEP, "no evidence of harm on 500 labels")
    move, why = trial.judge(Candidate("a:1", ramp, 200, step=1), ALPHA, {})
    assert move is Move.STAY  # no labels yet at that step
    trial = after(0.6, 0.9, 500)
    move, why = trial.judge(Candidate("a:1", (50.0, 100.0)), ALPHA, {})
    assert move is Move.PROMOTE
    assert why.startswith("loss lower by")
    held = trial.judge(Candidate("a:1", (50.0, 100.0)), ALPHA, {}, "labels are one-sided")
    assert held == (Move.STAY, "labels are one-sided")


def test_worse_is_withdrawn_at_once() -> None:
    """With the labels that prove it, and whatever the step asks for."""
    move, why = after(0.9, 0.6, 500).judge(Candidate("a:1", min_labels=9999), ALPHA, {})
    assert move is Move.WITHDRAW
    assert why.startswith("loss higher by")


def test_the_same_model_is_never_promoted() -> None:
    """It steps on, stays, and is withdrawn in the end."""
    trial, generator = CandidateTrial(), np.random.default_rng(4)
    truth = generator.integers(0, 2, MOST_LABELS).astype(np.float32)
    answers = said(truth, 0.8, generator)
    trial.update(answers, answers, truth, COSTS)
    move, why = trial.judge(Candidate("a:1", (50.0, 100.0)), ALPHA, {})
    assert (move, why) == (
        Move.WITHDRAW,
        f"no evidence that it is better after {MOST_LABELS:,} labels",
    )
    assert trial.status()["lift"]["mean"] == 0


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"answered": 1000, "failed": 4}, ""),
        ({"answered": 400, "failed": 5, "error": "RuntimeError: no"},
         "it failed 5 of 405 requests: RuntimeError: no"),
        ({"answered": 400, "failed": 4, "error": "RuntimeError: no"}, ""),
        ({"served": 60, "tried": 20, "late": 18, "lost": 2},
         "it did not answer 20 of 100 requests in time"),
        ({"served": 9000, "late": 30}, ""),
        ({"hung": 1, "ended": 1}, ""),
        ({"hung": 2, "ended": 1}, "its process ended once and hung 2 times"),
        ({"outgrew": 1}, "its process took too much memory once"),
    ],
    ids=["few", "fails", "too few", "late", "seldom late", "twice", "ends", "memory"],
)  # fmt: skip
def test_failures_withdraw(counts: dict[str, Any], why: str) -> None:
    """From five on and over 1 %, or three ends of its process, or too much memory."""
    assert failing(counts) == why
    move, _ = after(0.6, 0.9, 500).judge(Candidate("a:1"), ALPHA, counts)
    assert (move is Move.WITHDRAW) == bool(why)


def test_state_is_kept() -> None:
    """A runner that begins again goes on with the same evidence."""
    trials = CandidateTrials()
    trials.follow([Candidate("a:1", id=7)])
    trials.trials[7] = after(0.7, 0.8, 300)
    other = CandidateTrials()
    other.restore(trials.state())
    assert other.status() == trials.status()
    other.follow([])
    assert other.status() == {}


def test_shares_are_sticky_and_grow() -> None:
    """A key that a candidate answers is answered by it at each later step too."""
    names = [f"customer {i}".encode() for i in range(4000)]
    ramp, before = (1.0, 10.0, 50.0, 100.0), set[bytes]()
    for step, share in enumerate(ramp[:-1]):
        candidate = Candidate("a:1", ramp, step=step, id=3)
        taken = {name for name in names if candidate.takes(name)}
        assert before <= taken
        assert len(taken) / len(names) == pytest.approx(share / 100, abs=0.02)
        before = taken
    assert not Candidate("a:1", ramp, step=2, state=CandidateState.WITHDRAWN).takes(names[0])


@pytest.mark.parametrize("ramp", [(), (100,), (0, 50), (-1, 100), (10, 10, 100), (50, 10, 100)])
def test_ramps_that_are_none(ramp: tuple[float, ...]) -> None:
    """Each is refused by its name."""
    assert check_ramp(ramp).startswith("ramp: ")
