"""Rows of typed columns over HTTP's forms: by position, by name, as a file; and bad values."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from mixed import COLUMNS, NAMES, SCHEMA

from bento_selfheal.errors import InvalidInput
from bento_selfheal.inputs.column import Column
from bento_selfheal.serving.reading.typed_rows import TypedRowReader
from bento_selfheal.wire import npy

ROW: list[Any] = [None, 2, True, "fog", "2026-11-28"]
READER = TypedRowReader(COLUMNS, max_rows=10)


def test_by_position_and_by_name() -> None:
    """Lists and objects are the same row, with null where a value is missing."""
    expected = SCHEMA.code(ROW)
    for row in (ROW, dict(zip(NAMES, ROW, strict=True))):
        found, _ = READER.read_json(json.dumps({"rows": [row, row]}).encode()) or (None, None)
        assert found is not None
        assert np.array_equal(found, [expected, expected], equal_nan=True)
        assert np.array_equal(READER.read_one(row, ("features",)), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("row", "where", "said"),
    [
        ([None, 2.5, True, "fog", None], ("engines",), "a whole number is needed, got 2.5"),
        ([None, 2, True, ["fog"], None], ("sky",), "a text or null is needed, got ['fog']"),
        ([None, 2, True, 1234, None], ("sky",), "a text or null is needed, got 1234"),
        ([None, 2, True, "fog"], (), "4 values, the model has 5 features"),
        ("fog", (), "a row is a list or an object, got 'fog'"),
        ([None, None, True, "fog", None], ("engines",), "a whole number is needed, got null"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named(row: Any, where: tuple[Any, ...], said: str) -> None:
    """The error names row, column and value, and what belongs there."""
    with pytest.raises(InvalidInput) as refused:
        READER.read([ROW, row])
    assert refused.value.loc == ("rows", 1, *where)
    assert said in str(refused.value)


def test_a_numpy_file_holds_numbers_alone() -> None:
    """Where a column is text, a NumPy file is refused by that column's name; of numbers alone, NaN
    in it is a gap where one may be."""
    with pytest.raises(InvalidInput, match="'sky' is none; send JSON"):
        READER.read_npy(npy.dump(np.zeros((2, 5))))
    numbers = TypedRowReader([Column(name="a", nullable=True), Column(name="b")], max_rows=10)
    found = numbers.read_npy(npy.dump(np.asarray([[math.nan, 1.0]])))
    assert np.array_equal(found, [[math.nan, 1.0]], equal_nan=True)
    with pytest.raises(InvalidInput, match="a finite number is needed, got nan"):
        numbers.read_npy(npy.dump(np.asarray([[0.0, math.nan]])))
