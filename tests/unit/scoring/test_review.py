"""Which rows are looked at, and figures that speak for all rows although few are."""

from __future__ import annotations

import numpy as np
import pytest

from bento_selfheal.scoring.auc import auc_gap
from bento_selfheal.scoring.review import Review, Reviewer, draws
from bento_selfheal.scoring.scores import Scores, batch_interval, log_loss_gain

NOTHING = np.zeros(0, dtype=np.float32)


def test_the_same_draw_for_everybody() -> None:
    """Whoever reads the log draws the rows that the worker drew, of any part of a request; another
    request has draws of its own, and they are spread evenly."""
    review = Review(0.1, np.arange(20_000) < 1000)
    kept = Review.unpack(review.pack(), 20_000)
    assert kept.explored == 0.1
    assert np.array_equal(kept.asked(b"a"), review.asked(b"a"))
    assert np.array_equal(draws(b"a", 20), draws(b"a", 20_000)[:20])
    asked = review.asked(b"a")
    assert asked[:1000].all()
    assert asked[1000:].mean() == pytest.approx(0.1, abs=0.01)
    assert not np.array_equal(asked, review.asked(b"b"))


def test_flagged() -> None:
    """`flagged` asks for rows that are decided to be of another class than the first, at the
    threshold in force; `all` says nothing."""
    answers = np.asarray([0.1, 0.4, 0.6], dtype=np.float32)
    review = Reviewer("flagged", 0.05, 0.0, NOTHING).review(answers, 0.3)
    assert review is not None
    assert review.asked(b"a").tolist() == [False, True, True]
    assert review.chances.tolist() == [0, 1, 1]
    three = np.asarray([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7]], dtype=np.float32)
    review = Reviewer("flagged", 0.05, 0.0, NOTHING).review(three, 0.5)
    assert review is not None
    assert review.certain.tolist() == [False, True]
    assert Reviewer("all", 0.05, 0.5, NOTHING).review(answers, 0.3) is None


def test_capacity_follows_the_answers() -> None:
    """`capacity` asks for its share of the rows whatever the answers are like, also after they have
    moved."""
    draw = np.random.default_rng(0)
    reviewer = Reviewer("capacity", 0.05, 0.0, draw.random(500).astype(np.float32))
    shares = []
    for shift in (0.0, 0.5):
        found = []
        for _ in range(100):
            review = reviewer.review((draw.random(50) / 2 + shift).astype(np.float32), 0.5)
            assert review is not None
            found.append(review.certain.mean())
        shares.append(np.mean(found[50:]))
    assert shares == pytest.approx([0.05, 0.05], abs=0.015)


def test_figures_speak_for_all_rows() -> None:
    """Weighed by how likely rows were to be asked for, accuracy and recall are those of all rows;
    taken as they come, they are far off."""
    draw = np.random.default_rng(1)
    risk = draw.beta(0.3, 3, 20_000)
    truth, answers = (draw.random(20_000) < risk).astype(np.float32), risk.astype(np.float32)
    whole = Scores.of(answers, truth)
    review = Review(0.05, answers > np.quantile(answers, 0.95))
    shown, naive = [], []
    for n in range(200):
        asked = review.asked(n.to_bytes(12, "big"))
        known = answers[asked], truth[asked]
        shown.append(Scores.of(*known, weights=1 / review.chances[asked]))
        naive.append(Scores.of(*known))
    for name in ("accuracy", "recall"):
        true = getattr(whole, name)
        assert np.mean([getattr(s, name) for s in shown]) == pytest.approx(true, abs=0.005)
        assert abs(np.mean([getattr(s, name) for s in naive]) - true) > 0.03


def test_a_weight_is_so_many_rows() -> None:
    """Every figure takes a row of weight 3 for three rows, and one of weight 0 for none."""
    draw = np.random.default_rng(2)
    times = draw.integers(0, 4, 300)
    labels = (draw.random(300) < 0.3).astype(np.float32)
    ours, theirs = (draw.random((2, 300)) / 2 + labels / 3).astype(np.float32)
    many = [values.repeat(times) for values in (ours, theirs, labels)]
    weights = times.astype(np.float64)
    assert Scores.of(ours, labels, 0.4, weights) == Scores.of(many[0], many[2], 0.4)
    gained = log_loss_gain(ours, theirs, labels, weights)
    assert gained == pytest.approx(log_loss_gain(*many), rel=1e-4)
    weighed, repeated = auc_gap(ours, theirs, labels, weights), auc_gap(*many)
    assert weighed is not None
    assert repeated is not None
    assert weighed[0] == pytest.approx(repeated[0])
    lifts = draw.normal(size=8).tolist()
    sizes = [1.0, 2.0, 0.0, 1.0, 1.0, 4.0, 1.0, 1.0]
    assert batch_interval(lifts, sizes).mean == pytest.approx(np.average(lifts, weights=sizes))
    same, equal = batch_interval(lifts), batch_interval(lifts, [5.0] * 8)
    assert (equal.low, equal.high) == pytest.approx((same.low, same.high))
