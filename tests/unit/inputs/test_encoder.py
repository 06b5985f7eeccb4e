"""The encoder: codes of a mixed table become scaled numbers, all of them finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mixed import COLUMNS, codes, flights, packaged

from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.encoder import MOST_LEVELS, Encoder
from bento_selfheal.packaging.opening import open_package


def fitted() -> Encoder:
    encoder = Encoder(COLUMNS)
    encoder.fit(torch.from_numpy(codes(flights(500)[0])))
    return encoder


def test_every_row_is_finite() -> None:
    """Gaps everywhere, unseen categories and extreme numbers leave no NaN behind."""
    rows = torch.tensor([
        [np.nan, 1, np.nan, np.nan, np.nan], [3e38, -3e38, 1, 3, 1e9], [0, 0, 0, 1e9, 0],
    ])  # fmt: skip
    assert bool(fitted()(rows).isfinite().all())


def test_a_gap_is_the_usual_value_and_is_told() -> None:
    """A missing number stands where the mean does, and another number says that it is missing."""
    encoder = fitted()
    known, gap = (codes([[speed, 2, True, "fog", "2026-03-01"]]) for speed in (150.0, None))
    both = encoder(torch.from_numpy(np.concatenate([known, gap])))
    moved = (both[0] - both[1]).abs() > 0.2
    assert moved.nonzero().flatten().tolist() == [1]  # the flag behind the first number
    assert float(both[1, 0]) == 0


def test_levels_stand_apart_and_unseen_ones_together() -> None:
    """Each of the commonest levels has a number of its own; all others share one."""
    levels = tuple(f"model {i}" for i in range(MOST_LEVELS + 10))
    encoder = Encoder([Column(name="model", kind=Kind.CATEGORY, levels=levels)])
    seen = encoder.expand(torch.arange(len(levels) + 3).float().unsqueeze(1))
    assert seen.shape[1] == MOST_LEVELS + 1
    assert bool((seen.sum(dim=1) == 1).all())
    assert bool((seen[MOST_LEVELS:, -1] == 1).all())


def test_a_date_is_its_place_in_the_week_and_year() -> None:
    """The same weekday a week later is alike in the week; a year on, the season is the same."""
    encoder = Encoder([Column(name="day", kind=Kind.DATETIME)])
    first, week, year = encoder.expand(torch.tensor([[0.0], [7.0], [365.2425]]))
    assert torch.allclose(first[2:4], week[2:4], atol=1e-4)
    assert torch.allclose(first[4:], year[4:], atol=1e-4)
    assert not torch.allclose(first[4:], week[4:], atol=1e-2)


def test_packaged_and_opened() -> None:
    """A model of a mixed table is as good as its data allow, and opened again it answers the
    same, to the bit."""
    package = packaged()
    rows, labels = flights(1000, seed=1)
    said = package.baseline(codes(rows))
    late = np.asarray([label == "late" for label in labels])
    assert ((said > 0.5) == late).mean() > 0.8
    again = open_package(package.tag)
    assert again.info.columns == list(COLUMNS)
    assert np.array_equal(again.baseline(codes(rows)), said)
    assert package.inputs == len(Encoder(COLUMNS).mean)


@pytest.mark.parametrize("wrong", [COLUMNS[:-1], COLUMNS[::-1]])
def test_columns_are_the_features(wrong: tuple[Column, ...]) -> None:
    """Columns in another number or order than the features are refused by name."""
    from bento_selfheal.errors import PackageError
    from bento_selfheal.packaging.build import package_model

    rows, labels = flights(200)
    with pytest.raises(PackageError, match="columns: their names are not the features"):
        package_model(
            "x", codes(rows), labels, features=[c.name for c in COLUMNS], columns=wrong
        )  # fmt: skip
