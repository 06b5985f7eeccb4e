"""What the columns of a table are, and which are better left out."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.inference import infer

ROWS = 60


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([1.5, None], Column(name="a", nullable=True)),
        ([1, 2], Column(name="a", nullable=True)),
        ([True, False], Column(name="a", kind=Kind.BOOLEAN, nullable=True)),
        ([date(1970, 1, 3), date(1970, 1, 1)],
         Column(name="a", kind=Kind.DATETIME, nullable=True, origin=2.0)),
        (["b", "c", "a", "c"],
         Column(name="a", kind=Kind.CATEGORY, nullable=True, levels=("b", "c", "a"))),
        ([None, None], Column(name="a", nullable=True)),
    ],
)  # fmt: skip
def test_kinds(values: list[Any], column: Column) -> None:
    """Each type of column has its kind, and may be empty; levels stand as they first come."""
    assert infer(pa.table({"a": values, "y": values}), "y").columns == (column,)


def test_large_numbers_stay_apart() -> None:
    """Epoch seconds, which float32 cannot tell apart, are read from their median on."""
    seconds = [1_700_000_000 + i for i in range(101)]
    (column,) = infer(pa.table({"t": seconds, "y": seconds}), "y").columns
    assert column.origin == 1_700_000_050
    codes = (np.array(seconds) - column.origin).astype(np.float32)
    assert len(np.unique(codes)) == len(seconds)
    ids = [2**60 + i for i in range(101)]
    (column,) = infer(pa.table({"t": ids, "y": ids}), "y").columns
    assert column.origin == pytest.approx(2**60)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("a", list(range(ROWS)), "counts the rows"),
        ("Unnamed: 0", [3, 1] * (ROWS // 2), "no name"),
        ("a", [(i * 37) % ROWS + 2**60 for i in range(ROWS)], "ids"),
        ("a", [f"user{i}" for i in range(ROWS)], "an id"),
        ("a", [f"text number {i}" for i in range(ROWS)], "free text"),
        ("a", [f"{i}.5" for i in range(ROWS - 1)] + ["none"], "1 values are not, such as 'none'"),
        ("a", ["24.12.2026 20:00", "1/31/2026"] * (ROWS // 2), "write them as 2026-11-28"),
        ("a", ["10.0.0.1", "1-2-3"] * (ROWS // 2), None),
        ("a", [f"{i}%" for i in range(20)] * (ROWS // 20), "numbers such as '0%' are read as text"),
        ("a", [f"${i},200" for i in range(ROWS)], "numbers such as '$0,200'"),
        ("a", [f"1 {i:03} €" for i in range(ROWS)], "numbers such as '1 000 €'"),
        ("a", [*"12345", *[f"{i},000.5" for i in range(ROWS - 5)]], "such as '0,000.5'"),
        ("a", ["5 kg", "10 kg"] * (ROWS // 2), None),
        ("a", [f"{i % 50}th" for i in range(ROWS)], None),
        ("a", [f"{i % 50:05}" for i in range(ROWS)], None),
        ("a", ["same"] * ROWS, "every value is 'same'"),
        ("a", [None] * ROWS, "no values"),
        ("a", [1.5 * i for i in range(ROWS)], None),
        ("a", [10 * i for i in range(ROWS)], None),
        ("a", ["red", "blue"] * (ROWS // 2), None),
    ],
)
def test_suspects(name: str, values: list[Any], said: str | None) -> None:
    """Indexes, ids, free text and columns without news are named with the reason; others not."""
    suspects = infer(pa.table({name: values, "y": values}), "y").suspects
    assert list(suspects) == ([name] if said else [])
    assert said is None or said in suspects[name]


def test_every_column_that_does_not_work_is_named() -> None:
    """One message names all columns of types that no input can have, and values too large."""
    table = pa.table({
        "a": [[1], [2]], "b": [b"x", b"y"], "c": [1.0, float("inf")], "d": [1e300, 0], "y": [0, 1]
    })  # fmt: skip
    said = r"'a' has type list.*'b' has type binary.*'c': row 1 is inf.*'d': row 0 is 1e\+300"
    with pytest.raises(SettingsError, match=said):
        infer(table, "y")
    with pytest.raises(SettingsError, match=r"columns 'z', 'x' are not there; columns: \['a'"):
        infer(table, "z", ["x", "a"])
    with pytest.raises(SettingsError, match="no column is left"):
        infer(table, "y", ["a", "b", "c", "d"])
