"""The gate: what is not better gets through at most as often as alpha says, however one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bento_selfheal.gate import EProcess, Gate

ALPHA = 0.05
RUNS, ROWS = 2000, 300


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
        return 2 * u - 1.05
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["coin", "rare gain", "rare loss", "worse"])
def test_false_promotions(kind: str) -> None:
    """Looked at after every row, no more than alpha of the challengers that are no better are
    ever let through."""
    runs = null(kind, np.random.default_rng(5))
    through = 0
    for run in runs:
        e = EProcess()
        for i in range(ROWS):
            e.update(run[i : i + 1])
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


def labelled(n: int, skill: float, generator: np.random.Generator) -> tuple[
    NDArray[np.float32], NDArray[np.float32]
]:  # fmt: skip
    """Answers that are right with a chance of ``skill``, and the labels."""
    labels = (generator.random(n) < 0.5).astype(np.float32)
    right = generator.random(n) < skill
    return np.where(right == (labels == 1), 0.9, 0.1).astype(np.float32), labels


def test_promotes_a_clear_gain() -> None:
    """A challenger that is right on 9 rows of 10 replaces one that guesses within 100 labels,
    and the verdict says why."""
    generator = np.random.default_rng(0)
    better, labels = labelled(100, 0.9, generator)
    champion = np.full(100, 0.5, dtype=np.float32)
    verdict = Gate(ALPHA, 3000).update(champion, better, labels)
    assert verdict.promote
    assert verdict.evidence["rows"] == 100
    assert verdict.evidence["log_e"] >= verdict.evidence["log_e_needed"] == -math.log(ALPHA)
    assert f"{verdict.evidence['mean_gain']:.4f}" in verdict.reason


def test_equal_and_worse_never_win() -> None:
    """The champion itself, and anything worse, is not promoted on any number of labels."""
    generator = np.random.default_rng(1)
    for skill in (None, 0.3):
        gate = Gate(ALPHA, 100_000)
        for _ in range(30):
            champion, labels = labelled(100, 0.8, generator)
            other = champion if skill is None else labelled(100, skill, generator)[0]
            assert not gate.update(champion, other, labels).promote


def test_undecided_trial_ends() -> None:
    """A trial that runs its length ends with its evidence told, and the next begins at zero."""
    gate = Gate(ALPHA, trial_rows=200)
    same, labels = labelled(100, 0.8, np.random.default_rng(2))
    first, second, third = (gate.update(same, same, labels) for _ in range(3))
    assert [v.ended for v in (first, second, third)] == [False, True, False]
    assert [v.evidence["rows"] for v in (first, second, third)] == [100, 200, 100]


def test_restart_forgets() -> None:
    """After a change of the champion no old evidence counts."""
    gate = Gate(ALPHA, 3000)
    better, labels = labelled(60, 0.95, np.random.default_rng(3))
    gate.update(np.full(60, 0.5, dtype=np.float32), better, labels)
    gate.restart()
    assert gate.evidence() == Gate(ALPHA, 3000).evidence()
