"""Labels: which rows have one, and what is no class."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from elec2 import CASES, needs_cases

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.labels import labels_of
from bento_selfheal.inputs.table_file import read_file


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["no", None, "yes"], ["no", "yes"]),
        (["no", "?", " yes"], ["no", "yes"]),
        ([1, None, 0], [1, 0]),
        ([1.0, float("nan"), 0.0], [1, 0]),
        ([True, None, False], [1, 0]),
        ([Decimal("1.0"), None, Decimal("0.0")], [1, 0]),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_labels(values: list[Any], labels: list[Any], encoded: bool) -> None:
    """Text, whole numbers and booleans are classes; a missing label is none."""
    column = pa.array(values)
    if encoded and not pa.types.is_decimal(column.type) and not pa.types.is_boolean(column.type):
        column = column.dictionary_encode()
    found, has_one = labels_of(pa.table({"y": column}), "y")
    assert found.tolist() == labels
    assert has_one.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5, 1.5], "'y': the label 0.5 is a number that is not whole"),
        ([Decimal("1.0"), Decimal("1.5")], r"the label Decimal\('1.5'\)"),
        ([b"no", b"yes"], "the label b'no' is a value of type binary"),
        ([1.0, float("inf")], "the label inf"),
        ([i / 7 for i in range(51)], "51 different numbers.*regression target"),
        ([None, None], "no row has a label"),
        ([2**64 - 1, 0], "column 'y'"),
    ],
)
def test_refused(values: list[Any], said: str) -> None:
    """What is no class is refused with its column and value."""
    column = pa.array(values, pa.uint64() if values[0] == 2**64 - 1 else None)
    with pytest.raises(SettingsError, match=said):
        labels_of(pa.table({"y": column}), "y")


@needs_cases
@pytest.mark.parametrize(
    ("name", "classes"), [("empty_label.csv", {"no", "yes"}), ("nan_label.parquet", {0, 1})]
)
def test_cases(name: str, classes: set[Any]) -> None:
    """A tenth of the labels is missing in these files, which makes no class."""
    labels, has_one = labels_of(read_file(CASES / name).table, "left")
    assert set(labels.tolist()) == classes
    assert len(labels) == has_one.sum() == 110
