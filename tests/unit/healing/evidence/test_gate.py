"""The gate: what is not better gets through at most as often as alpha says, however one looks."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bento_selfheal.healing.evidence.e_process import EProcess
from bento_selfheal.healing.evidence.gate import Gate, Regret

ALPHA = 0.05
RUNS, ROWS = 1000, 300


def null(kind: str, generator: np.random.Generator) -> NDArray[np.float64]:
    """Score differences without any gain, ``(RUNS, ROWS)``."""
    u = generator.random((RUNS, ROWS))
    if kind == "coin":
        return np.where(u < 0.5, 1.0, -1.0)
    if kind == "rare gain":
        return np.where(u < 0.1, 0.9, -0.1)
    if kind == "rare loss":
        return np.where(u < 0.1, -0.9, 0.1)
    if kind == "worse":
        return np.maximum(2 * u - 1.05, -1.0)
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["coin", "rare gain", "rare loss", "worse"])
def test_false_promotions(kind: str) -> None:
    """Looked at after every third row, no more than alpha of the challengers that are no better
    are ever let through."""
    runs = null(kind, np.random.default_rng(5))
    through = 0
    for run in runs:
        e = EProcess()
        for i in range(0, ROWS, 3):
            e.update(run[i : i + 3])
            if e.reaches(ALPHA):
                through += 1
                break
    assert through / RUNS <= ALPHA + 0.01


@given(st.lists(st.floats(-1, 1), max_size=60), st.randoms(use_true_random=False))
def test_bets_from_the_past(differences: list[float], shuffle: object) -> None:
    """A bet depends on earlier differences only: another future does not change it."""
    cut = len(differences) // 2
    future = differences[cut:]
    shuffle.shuffle(future)  # type: ignore[attr-defined]
    bets = []
    for ahead in (differences[cut:], future):
        e, made = EProcess(), []
        for d in [*differences[:cut], *ahead]:
            made.append(e.bet())
            e.update(np.asarray([d]))
        bets.append(made[: cut + 1])
    assert bets[0] == bets[1]


@given(st.lists(st.floats(-1, 1), max_size=60), st.integers(1, 60))
def test_batches_do_not_matter(differences: list[float], size: int) -> None:
    """Evidence is the same in whatever batches the rows come, and always a real number."""
    whole, parts = EProcess(), EProcess()
    whole.update(np.asarray(differences))
    for start in range(0, len(differences), size):
        parts.update(np.asarray(differences[start : start + size]))
    assert whole == parts
    assert math.isfinite(whole.log_e)


@pytest.mark.parametrize("outside", [1.5, -1.01, math.nan, math.inf])
def test_no_bet_on_a_difference_outside(outside: float) -> None:
    """A difference that no two losses in [0, 1] can have is refused by its value, before anything
    is bet on it; rounding is not."""
    e = EProcess()
    e.update(np.asarray([0.2, 1 + 1e-12, -1 - 1e-12]))
    before = asdict(e)
    with pytest.raises(ValueError, match=rf"is {outside:g}, which is not in \[-1, 1\]"):
        e.update(np.asarray([0.1, outside]))
    assert asdict(e) == before


def gains(n: int, mean: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Score differences of +1 and -1 with this mean, ``(n,)``."""
    return np.where(generator.random(n) < (1 + mean) / 2, 1.0, -1.0)


def test_promotes_a_clear_gain() -> None:
    """A line that is clearly better gets through within 100 labels, and the verdict says why."""
    verdict = Gate(ALPHA, 3000).update(gains(100, 0.6, np.random.default_rng(0)))
    assert verdict.promote
    assert verdict.evidence["rows"] == 100
    assert verdict.evidence["log_e"] >= verdict.evidence["log_e_needed"] == -math.log(ALPHA / 2)
    assert f"{verdict.evidence['mean_gain']:.4f}" in verdict.reason


def test_equal_and_worse_never_win() -> None:
    """The champion itself, and anything worse, is not promoted on any number of labels."""
    generator = np.random.default_rng(1)
    for mean in (None, -0.3):
        gate = Gate(ALPHA, 100_000)
        for _ in range(30):
            d = np.zeros(100) if mean is None else gains(100, mean, generator)
            assert not gate.update(d).promote


def test_alpha_is_spent() -> None:
    """Over as many trials as there are, a line that is no better gets through at most with a
    chance of alpha: each new trial asks for more evidence."""
    generator = np.random.default_rng(7)
    through = 0
    for _ in range(300):
        gate = Gate(0.2, trial_rows=100)
        through += any(gate.update(gains(25, 0.0, generator)).promote for _ in range(80))
    assert through / 300 <= 0.2 + 0.03
    gate = Gate(ALPHA, trial_rows=50)
    needed = [gate.update(np.zeros(50)).evidence["log_e_needed"] for _ in range(3)]
    assert needed == [-math.log(ALPHA / k) for k in (2, 6, 12)]


def test_a_proven_line_goes_on() -> None:
    """After its proof a line's next snapshot serves when it gained on average on enough labels,
    and not when it lost."""
    gate = Gate(ALPHA, 3000, advance_rows=100)
    assert gate.update(np.full(60, 0.5)).promote
    gate.restart()
    assert not gate.update(np.full(50, 0.01)).promote
    assert gate.update(np.full(50, 0.01)).promote
    gate.restart()
    assert not gate.update(np.full(200, -0.01)).promote


def test_a_line_that_learned_much_goes_on_at_once() -> None:
    """A proven line does not wait for a window of labels where fewer are evidence enough."""
    gate = Gate(ALPHA, 3000, advance_rows=100)
    assert gate.update(np.full(60, 0.5)).promote
    gate.restart()
    assert not gate.update(np.full(10, 0.3)).promote
    assert gate.update(np.full(20, 0.3)).promote


def test_an_old_loss_is_not_held_against_a_line() -> None:
    """A line that lost over one look and gains over the next serves: the looks are apart."""
    gate = Gate(ALPHA, 3000, advance_rows=100)
    assert gate.update(np.full(60, 0.5)).promote
    gate.restart()
    assert "waits" in gate.update(np.full(100, -0.5)).reason
    assert gate.update(np.full(100, 0.01)).promote


@pytest.mark.parametrize(("pace", "enough"), [(1.0, 100), (2.0, 50), (50.0, 5)])
def test_few_labels_are_looked_at_sooner(pace: float, enough: int) -> None:
    """Where a label comes only every so many rows, a proven line waits for as many fewer, and
    for 5 at the least."""
    gate = Gate(ALPHA, 3000, advance_rows=100)
    assert gate.update(np.full(60, 0.5)).promote
    gate.restart()
    assert not gate.update(np.full(enough - 1, 0.01), rows_per_label=pace).promote
    assert gate.update(np.full(1, 0.01), rows_per_label=pace).promote


def test_few_labels_must_speak_loudly_against_a_line() -> None:
    """Of 5 labels that stand for 100, one mistake more holds no proven line back, as 5 would."""
    one, all_of_them = np.asarray([-0.4, 0, 0, 0, 0]), np.full(5, -0.4)
    for gains, follows in ((one, True), (all_of_them, False)):
        gate = Gate(ALPHA, 3000, advance_rows=100)
        assert gate.update(np.full(60, 0.5)).promote
        gate.restart()
        assert gate.update(gains, rows_per_label=20.0).promote is follows


def test_another_line_proves_itself_again() -> None:
    """A new line has no proof of its own, and a later trial's share of alpha."""
    gate = Gate(ALPHA, 3000)
    gate.update(np.full(60, 0.5))
    gate.renew()
    assert not gate.proven
    assert gate.evidence()["log_e_needed"] == -math.log(ALPHA / 6)


def test_undecided_trial_ends() -> None:
    """A trial that runs its length ends with its evidence told, and the next begins at zero."""
    gate = Gate(ALPHA, trial_rows=200)
    first, second, third = (gate.update(np.zeros(100)) for _ in range(3))
    assert [v.ended for v in (first, second, third)] == [False, True, False]
    assert [v.evidence["rows"] for v in (first, second, third)] == [100, 200, 100]


def test_restart_forgets() -> None:
    """After a change of the champion no old evidence counts."""
    gate = Gate(ALPHA, 3000)
    gate.update(np.full(5, 0.2))
    gate.restart()
    assert gate.evidence() == Gate(ALPHA, 3000).evidence()


def test_late_bloomer() -> None:
    """A challenger that was worse for long is let through soon after it becomes better."""
    gate = Gate(ALPHA, 100_000)
    generator = np.random.default_rng(3)
    gate.update(gains(2000, -0.2, generator))
    assert any(gate.update(gains(100, 0.3, generator)).promote for _ in range(20))


def test_a_proven_line_follows_unless_labels_speak_against_it() -> None:
    """What chance explains does not hold a proven line back; a loss beyond a standard error
    does."""
    unclear = np.where(np.arange(100) % 2 == 0, 0.2, -0.21)
    for gains, follows in ((unclear, True), (unclear - 0.05, False)):
        gate = Gate(ALPHA, 3000, advance_rows=100)
        assert gate.update(np.full(60, 0.5)).promote
        gate.restart()
        assert gate.update(gains).promote is follows


def test_rare_gains_are_remembered() -> None:
    """Where a rare class decides, bets remember as long as it is rare: a gain on one row in 400
    is proven on 250 such rows."""
    generator = np.random.default_rng(6)
    d = np.zeros(100_000)
    d[::400] = np.where(generator.random(250) < 0.65, 0.2, -0.2)
    assert Gate(ALPHA, 3000).update(d, rarity=100).promote
    short = EProcess()
    short.update(d)
    assert not short.reaches(ALPHA / 2)


def test_regret() -> None:
    """The same test turned round asks for a rollback when what serves is worse than what it
    replaced, says by how much, and stays quiet when it is not."""
    regret = Regret(0.001, window=3000)
    assert regret.update(gains(3500, -0.05, np.random.default_rng(4))) == ""
    why = regret.update(np.full(200, 0.4))
    assert "higher" in why
    assert "labels" in why
