"""What labels say of the meaning of columns, on samples that are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.healing.causes.cells import FIRST
from bento_selfheal.healing.causes.matching import match, together
from bento_selfheal.healing.causes.meaning import Meaning, Sample, meaning
from bento_selfheal.healing.causes.recalibration import recalibrated

COLUMNS = 6
ANSWERS = [COLUMNS]


def sample(n: int, seed: int, shift: NDArray[np.float64] | float = 0.0) -> Sample:
    """Rows of columns with four cells each and of an answer, whose labels are those that the answer
    says, but for a shift of the chance in each cell of the first column."""
    draw = np.random.default_rng(seed)
    cells = draw.integers(4, size=(n, COLUMNS + 1))
    said = 0.2 + 0.2 * cells[:, COLUMNS]
    true = np.clip(said + np.broadcast_to(shift, 4)[cells[:, 0]], 0, 1)
    label = draw.random(n) < true
    return Sample((FIRST + cells).astype(np.uint8), (label - said)[:, None])


def said(new: Sample, known: Sample) -> Meaning:
    return meaning(new, known, ANSWERS, match(new.codes, known.codes, ANSWERS, [], []), 0.05)


def test_a_shift_of_one_column_is_that_columns() -> None:
    """Where the chance rises in some cells of a column and falls in others, it is named alone."""
    found = said(sample(1000, 1, np.asarray([0.2, -0.2, 0.2, -0.2])), sample(1500, 2))
    assert found.changed
    assert found.own.tolist() == [True, *[False] * COLUMNS]
    assert found.z.argmax() == 0


def test_a_shift_that_is_common_to_all_is_no_columns() -> None:
    """A class that became more common is a change of meaning, and of no column: each cell of every
    column moved alike."""
    found = said(sample(1000, 1, 0.15), sample(1500, 2))
    assert found.changed
    assert not found.own.any()
    assert found.z.max() < 6


def test_errors_hold_where_nothing_changed() -> None:
    """Of 200 samples without a change, no more than 1 % at a look's share are said to have one."""
    found = [said(sample(600, seed), sample(1000, 5000 + seed)) for seed in range(200)]
    assert sum(one.changed for one in found) <= 2


def test_what_no_known_row_is_like_is_left_out() -> None:
    """Rows of an answer that never came before tell nothing, and are counted."""
    new, known = sample(1000, 1), sample(1500, 2)
    new.codes[:300, COLUMNS] = FIRST + 9
    found = said(new, known)
    assert (round(found.outside, 9), found.changed) == (0.3, False)


def test_a_vector_is_matched_by_all_its_places() -> None:
    """Places that go together in one sample and against each other in the other look alike each by
    itself, and are told apart in spread."""
    draw = np.random.default_rng(3)
    first = draw.integers(12, size=(1000, 1))
    own = FIRST + np.concatenate([first, first, draw.integers(12, size=(1000, 1))], axis=1)
    shifted = own.copy()
    shifted[:, :2] = np.minimum(shifted[:, :2] + 4, FIRST + 11)
    apart, alike = (
        [np.bincount(codes, minlength=20)[FIRST:] / 1000 for codes in together(*pair)]
        for pair in ((shifted.astype(np.uint8), own.astype(np.uint8)), (own, own))
    )
    assert np.abs(apart[0] - apart[1]).sum() > 0.6
    assert np.abs(alike[0] - alike[1]).sum() < 1e-9


def test_answers_that_are_too_sure_are_made_less_sure() -> None:
    """What a shift and a scale of the log odds explain is gone; what they do not explain stays."""
    draw = np.random.default_rng(4)
    true = draw.random(2000)
    labels = (draw.random(2000) < true).astype(np.float32)
    odds = np.log(true / (1 - true))
    sure = (1 / (1 + np.exp(-3 * odds))).astype(np.float32)
    better = recalibrated(sure, labels, np.ones(2000, dtype=bool))
    assert np.abs(better - true).mean() < 0.03 < np.abs(sure - true).mean()
    many = np.stack([sure, 1 - sure], axis=1)
    assert np.allclose(recalibrated(many, 1 - labels, np.ones(2000, dtype=bool)).sum(axis=1), 1)
