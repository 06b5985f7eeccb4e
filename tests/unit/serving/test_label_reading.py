"""A label is a class of the model, one that it never saw, or a mistake."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bento_selfheal.core.labels import FIRST_NEW
from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.classes import LabelReader

NUMBERS, WORDS = LabelReader([0, 1]), LabelReader(["no", "yes"])


def read(reader: LabelReader, *labels: Any) -> list[int]:
    return [reader.read(label, ())[0] for label in labels]


def test_known() -> None:
    """A label is read as the index of its class; 1.0 is 1, and so is "1"."""
    assert read(NUMBERS, 0, 1, 1.0, "0", "1") == [0, 1, 1, 0, 1]
    assert read(WORDS, "no", "yes") == [0, 1]
    assert read(LabelReader(["0", "1"]), 0, 1, "1") == [0, 1, 1]


def test_a_text_of_two_classes() -> None:
    """Where a number and its text are both classes, each label is the one that it is."""
    assert read(LabelReader([1, "1", "1.5"]), 1, 1.0, "1", 1.5) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("reader", "same", "label"),
    [(NUMBERS, (2, 2.0, "2"), 2), (NUMBERS, (-1,), -1), (WORDS, ("maybe",), "maybe"),
     (WORDS, ("grün",), "grün")],
)  # fmt: skip
def test_new(reader: LabelReader, same: tuple[Any, ...], label: Any) -> None:
    """A label of the classes' type that is none of them is a new class, however it is written, and
    has one index everywhere, which is read back as the class."""
    found = {reader.read(one, ()) for one in same}
    assert len(found) == 1
    index, name = found.pop()
    assert index >= FIRST_NEW
    assert LabelReader(reader.classes).class_of(index, name) == label
    assert reader.read("other" if reader is WORDS else 77, ())[0] != index


@pytest.mark.parametrize(
    ("reader", "value"),
    [(NUMBERS, True), (NUMBERS, "01"), (NUMBERS, "1_0"), (NUMBERS, 1.5), (NUMBERS, math.nan),
     (NUMBERS, math.inf), (NUMBERS, 2**60), (NUMBERS, "fraud"), (NUMBERS, None), (NUMBERS, [1]),
     (WORDS, 1), (WORDS, {}), (WORDS, ""), (WORDS, " maybe"), (WORDS, "a\0"), (WORDS, "x" * 101),
     (WORDS, "\ud800"), (LabelReader(["1", "2"]), 3)],
)  # fmt: skip
def test_refused(reader: LabelReader, value: Any) -> None:
    """Whatever can be no class beside the model's is refused with its place and value."""
    with pytest.raises(InvalidInput, match="is not a class") as refused:
        reader.read(value, ("items", 3, "label"))
    assert refused.value.loc == ("items", 3, "label")


@pytest.mark.parametrize("value", ["Yes", " yes", "YES "])
def test_a_slip(value: str) -> None:
    """A known class in other capitals, or with spaces around it, is no new one."""
    with pytest.raises(InvalidInput, match="did you mean 'yes'"):
        WORDS.read(value, ())
