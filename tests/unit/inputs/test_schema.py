"""Values of typed columns: codes and back, and what a column cannot hold."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from mixed import SCHEMA, codes, flights

from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Misfit, Schema

GOOD: list[Any] = [151.5, 2, True, "fog", "2026-11-28"]


def test_values_come_back() -> None:
    """What a row said can be told from its codes."""
    rows, _ = flights(50)
    told = SCHEMA.values(codes(rows))
    for i, row in enumerate(rows):
        speed, engines, night, sky, day = (told[name][i] for name in told)
        assert speed == (None if row[0] is None else pytest.approx(row[0], rel=1e-6))
        assert [engines, night, sky] == row[1:4]
        assert day.date().isoformat() == row[4]


@pytest.mark.parametrize(
    ("place", "value", "wanted"),
    [
        (0, "fast", "a finite number or null"),
        (0, math.inf, "a finite number or null"),
        (0, 1e39, "a finite number or null"),
        (0, True, "a finite number or null"),
        (1, 1.5, "a whole number"),
        (1, None, "a whole number"),
        (2, "yes", "true or false or null"),
        (2, 2, "true or false or null"),
        (3, ["fog"], "a text or null"),
        (3, True, "a text or null"),
        (3, 1234, "a text or null"),
        (3, 0.5, "a text or null"),
        (4, "yesterday", "a date such as 2026-11-28 or 2026-11-28T09:30:00Z or null"),
        (4, 20_000, "a date such as 2026-11-28 or 2026-11-28T09:30:00Z or null"),
    ],
)
def test_what_a_column_cannot_hold(place: int, value: Any, wanted: str) -> None:
    """A value of another type is refused with its column, and with what belongs there."""
    row = [*GOOD]
    row[place] = value
    with pytest.raises(Misfit) as refused:
        SCHEMA.code(row)
    assert refused.value.column == SCHEMA.columns[place].name
    assert refused.value.wanted == wanted


def test_the_first_bad_value_of_many_rows_is_named() -> None:
    """Whichever columns are wrong, it is the first row's first value that is told."""
    rows = [[*GOOD] for _ in range(50)]
    rows[40][0], rows[30][4], rows[30][1] = "fast", "soon", 10**400
    with pytest.raises(Misfit) as refused:
        SCHEMA.codes(rows)
    assert (refused.value.row, refused.value.column, refused.value.value) == (
        30,
        "engines",
        10**400,
    )


def test_rows_together_are_rows_alone() -> None:
    """A row has the same codes in any company, whatever else its columns hold."""
    odd: list[list[Any]] = [
        [1, 2.0, 1, "fog ", "2026-11-28"], [None, np.int64(3), False, math.nan, math.nan],
        [10**30, 2, None, "5", datetime(2026, 11, 28)], [np.float32(0.5), 10**30, True, None, None],
    ]  # fmt: skip
    alone = np.stack([SCHEMA.code(row) for row in odd])
    assert np.array_equal(SCHEMA.codes(odd), alone, equal_nan=True)
    assert np.array_equal(np.isnan(alone).sum(axis=1), [0, 3, 1, 2])
    assert alone[:, 3].tolist()[0] == 1


def test_gaps_and_unseen_categories_are_answers() -> None:
    """A missing value is NaN, whichever way it is told; a category that was never seen has a code
    of its own, and no name any more."""
    found = SCHEMA.code([math.nan, 1, None, "hail", None])
    assert np.isnan(found[[0, 2, 4]]).all()
    assert found[3] == 3
    told = SCHEMA.values(found[None])
    assert [told[name][0] for name in told] == [None, 1, None, None, None]


@pytest.mark.parametrize("kind", [Kind.NUMBER, Kind.INTEGER])
def test_large_numbers_keep_their_digits(kind: Kind) -> None:
    """Seconds since 1970 that are one apart stay apart on their way through float32."""
    schema = Schema([Column(name="at", kind=kind, origin=1_795_000_000)])
    found = [schema.code([1_795_442_638 + i])[0] for i in range(3)]
    assert len(set(found)) == 3
    assert schema.values(np.asarray(found)[:, None])["at"] == [1_795_442_638 + i for i in range(3)]


def test_dates_in_every_form() -> None:
    """Texts, dates and times, with and without a zone, stand for the same moment."""
    forms = ["2026-11-28", "2026-11-28T00:00:00Z", "2026-11-28T01:00:00+01:00", date(2026, 11, 28),
             datetime(2026, 11, 28), datetime(2026, 11, 28, tzinfo=UTC),
             np.datetime64("2026-11-28")]  # fmt: skip
    assert len({float(SCHEMA.code([*GOOD[:4], form])[4]) for form in forms}) == 1


def test_numbers_as_categories() -> None:
    """A category of numbers is told by their text, as it was read from a file; one that no level is
    was never seen."""
    schema = Schema([Column(name="model", kind=Kind.CATEGORY, levels=("737", "747"))])
    assert schema.code([747]) == schema.code(["747"]) == schema.code([" 747 "]) == 1
    assert schema.code([757]) == schema.code([7.5]) == 2


@pytest.mark.parametrize(
    ("levels", "number"),
    [(("fog", "7"), 7), (("fog", "1.5"), 3), (("fog", "-3"), 3), ((), 1234), (("nil", "1e5"), None),
     (("01234", "07"), None), (("1,5", "7 ", "0x7"), None)],
)  # fmt: skip
def test_numbers_where_a_level_may_be_one(levels: tuple[str, ...], number: float | None) -> None:
    """A number is a category only where the text of one is a level, or none is known; elsewhere it
    would be unseen in every row, and is refused."""
    schema = Schema([Column(name="zip", kind=Kind.CATEGORY, levels=levels)])
    if number is None:
        with pytest.raises(Misfit, match="column 'zip': a text is needed, got 1234"):
            schema.code([1234])
    else:
        assert schema.code([number]) == (1 if str(number) in levels else len(levels))
