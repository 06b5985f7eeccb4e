"""Rows and labels from outside: taken to the bit, or refused with row, field and value named."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bento_selfheal.errors import InvalidInput
from bento_selfheal.serving.reading.rows import RowReader

NAMES = ["a", "b", "V14"]
READER = RowReader(NAMES, max_rows=5)


def test_lists_and_objects_are_equal() -> None:
    """A row as an object by name, in any order, is the same row as its list."""
    lists = READER.read([[1, 2.5, -3], [0, 0, 1e-3]])
    objects = READER.read([{"V14": -3, "a": 1, "b": 2.5}, {"b": 0, "V14": 1e-3, "a": 0}])
    assert lists.dtype == objects.dtype == np.float32
    assert np.array_equal(lists, objects)
    assert np.array_equal(READER.read_one({"V14": -3, "b": 2.5, "a": 1}, ("x",)), lists[0])
    assert np.array_equal(READER.read_one([1, 2.5, -3], ("x",)), lists[0])


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=5),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    )
)
def test_finite_tables_round_trip(table: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    """Any finite float32 table survives JSON's lists and objects to the bit."""
    names = [f"f{i}" for i in range(table.shape[1])]
    reader = RowReader(names, max_rows=5)
    assert reader.read(table.tolist()).tobytes() == table.tobytes()
    objects = [dict(zip(names, row, strict=True)) for row in table.tolist()]
    assert reader.read(objects).tobytes() == table.tobytes()


@pytest.mark.parametrize("value", [0, -7, 2**53 + 1, 2**63, 2**64, -(2**70), 10**38])
def test_integers(value: int) -> None:
    """An integer of any size that float32 can hold is taken as the nearest float32."""
    out = READER.read([[value, 1, 2], [1, 2, 3.5]])
    assert out[0].tolist() == [float(np.float32(value)), 1.0, 2.0]
    assert READER.read_one([value, 1, 2], ("x",)).tolist() == out[0].tolist()


BAD_VALUES = [
    (None, "type"), ("1.5", "type"), ("abc", "type"), (True, "type"), (False, "type"),
    ([1.0], "type"), ([], "type"), ({}, "type"), ({"x": 1}, "type"),
    (math.nan, "not_finite"), (math.inf, "not_finite"), (-math.inf, "not_finite"),
    (1e39, "not_finite"), (-1e300, "not_finite"), (10**39, "not_finite"),
    (10**400, "not_finite"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kind"), BAD_VALUES)
@pytest.mark.parametrize("as_object", [False, True], ids=["list", "object"])
def test_bad_value(value: Any, kind: str, as_object: bool) -> None:
    """A value that is no finite number is refused: row, field and value are named."""
    rows: list[Any] = [[1, 2, 3], [1, 2.5, value], [1, 2, 3]]
    if as_object:
        rows = [dict(zip(NAMES, row, strict=True)) for row in rows]
    with pytest.raises(InvalidInput) as refused:
        READER.read(rows)
    assert refused.value.loc == ("rows", 1, "V14")
    assert refused.value.kind == kind
    assert repr(value)[:70] in refused.value.msg
    body = refused.value.body()["detail"][0]
    assert body["loc"] == ["rows", 1, "V14"]
    with pytest.raises(InvalidInput) as refused:
        READER.read_one(rows[1], ("items", 4, "features"))
    assert refused.value.loc == ("items", 4, "features", "V14")


@pytest.mark.parametrize(
    ("rows", "loc", "kind"),
    [
        (None, ("rows",), "type"),
        ({"a": 1}, ("rows",), "type"),
        ("abc", ("rows",), "type"),
        ([], ("rows",), "empty"),
        ([[1, 2, 3]] * 6, ("rows",), "too_many"),
        ([[1, 2, 3], [1, 2]], ("rows", 1), "width"),
        ([[1, 2]], ("rows", 0), "width"),
        ([[1, 2, 3, 4]] * 2, ("rows", 0), "width"),
        ([[]], ("rows", 0), "width"),
        ([[[1, 2, 3]]], ("rows", 0), "width"),
        ([1, 2, 3], ("rows", 0), "type"),
        (["abc"], ("rows", 0), "type"),
        ([[1, 2, 3], None], ("rows", 1), "type"),
        ([[1, 2, 3], {"a": 1, "b": 2, "V14": 3}], ("rows", 1), "type"),
        ([{"a": 1, "b": 2, "V14": 3}, [1, 2, 3]], ("rows", 1), "type"),
        ([{"a": 1, "b": 2, "V14": 3, "zz": 4}], ("rows", 0, "zz"), "unknown_feature"),
        ([{"a": 1, "b": 2}], ("rows", 0, "V14"), "missing"),
        ([{}], ("rows", 0, "a"), "missing"),
    ],
)
def test_bad_rows(rows: Any, loc: tuple[Any, ...], kind: str) -> None:
    """Whatever is no batch of this model's rows is refused at the place that is wrong."""
    with pytest.raises(InvalidInput) as refused:
        READER.read(rows)
    assert (refused.value.loc, refused.value.kind) == (loc, kind)
    assert str(refused.value).startswith(".".join(str(part) for part in loc))


def test_long_values_are_cut() -> None:
    """A megabyte of text in a field does not become a megabyte of error."""
    with pytest.raises(InvalidInput) as refused:
        READER.read([["x" * 1_000_000, 1, 2]])
    assert len(str(refused.value)) < 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*NAMES, "zz"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json(rows: Any) -> None:
    """Any JSON value is either a finite table of the right width or refused by name."""
    try:
        table = READER.read(rows)
    except InvalidInput as error:
        told = error.loc[0]
        table = None
    if table is None:
        assert told == "rows"
    else:
        assert table.shape == (len(rows), 3)
        assert np.isfinite(table).all()


def outcome(read: Callable[[], Any]) -> Any:
    """The bytes of a table, or what was refused."""
    try:
        table = read()
    except InvalidInput as error:
        return error.loc, error.kind, error.msg
    return None if table is None else table.tobytes()


bodies = st.fixed_dictionaries({"rows": json_values | st.lists(st.lists(st.floats(), max_size=4))})


own_keys = st.none() | st.lists(json_values, max_size=4) | st.lists(st.text('a"{', max_size=3))


def in_json(body: bytes) -> Any:
    """The rows of a body; None where it is left to BentoML."""
    read = READER.read_json(body)
    return None if read is None else read[0]


@given(bodies, own_keys)
def test_bytes_are_read_as_values(body: dict[str, Any], keys: Any) -> None:
    """A JSON body gets what its values would: the same table, or a refusal at the same place,
    whatever its keys are; what the lane does not read (NaN, a lone surrogate) it leaves to
    BentoML."""
    text = json.dumps(body if keys is None else {**body, "keys": keys})
    given = outcome(lambda: in_json(text.encode()))
    expected = outcome(lambda: READER.read(json.loads(text)["rows"]))
    if isinstance(given, tuple):
        assert given[:2] == expected[:2]
    elif given is not None:
        # An integer beyond 64 bits is rounded twice here: to a double, then to float32.
        read, wanted = (np.frombuffer(table, np.float32) for table in (given, expected))
        np.testing.assert_allclose(read, wanted, rtol=1e-6)


@pytest.mark.parametrize(("value", "kind"), [v for v in BAD_VALUES if v[0] == v[0]])
def test_bad_value_in_bytes(value: Any, kind: str) -> None:
    """No shortcut lets a value through that is no finite number."""
    body = json.dumps({"rows": [[1, 2, 3], [1, 2.5, value]]}).encode()
    given = outcome(lambda: in_json(body))
    assert given is None or given[:2] == (("rows", 1, "V14"), kind)


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"{}", b'{"rows":[[1,2,3]],"x":1}', b"\xff"])
def test_other_bodies_are_left(body: bytes) -> None:
    """What is not ``{"rows": …}`` is BentoML's to refuse."""
    assert READER.read_json(body) is None


def npy(table: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(table))
    return file.getvalue()


@pytest.mark.parametrize("kind", ["<f4", "<f8", ">f4", "<i8", "u1", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(kind: str, order: str) -> None:
    """A NumPy file of any number type and order is the table that it holds."""
    table = np.asarray([[1, 2, 3], [4, 5, 6]], dtype=kind, order=order)
    assert READER.read_npy(npy(table)).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        (b"", ("body",), "npy"),
        (b"\x93NUMPY", ("body",), "npy"),
        (npy([[1.0, 2, 3]])[:-1], ("body",), "npy"),
        (b"\x93NUMPY\x01\x00\x01\x00{\x00", ("body",), "npy"),
        (b"\x93NUMPY\x01\x00\xff\x00" + b"(" * 255, ("body",), "npy"),
        (npy([["a", "b", "c"]]), ("body",), "npy"),
        (npy([[True, False, True]]), ("body",), "npy"),
        (npy([1.0, 2, 3]), ("body",), "npy"),
        (npy([[1.0, 2, 3]]).replace(b"(1, 3), }   ", b"(True, 3), }"), ("body",), "npy"),
        (npy(np.zeros((0, 3))), ("rows",), "empty"),
        (npy(np.zeros((6, 3))), ("rows",), "too_many"),
        (npy(np.zeros((2, 2))), ("rows", 0), "width"),
        (npy([[1, 2, 3], [1, math.nan, 3]]), ("rows", 1, "b"), "not_finite"),
        (npy([[1, 2, 1e39]]), ("rows", 0, "V14"), "not_finite"),
    ],
)
def test_bad_npy(body: bytes, loc: tuple[Any, ...], kind: str) -> None:
    """A file that is no table of finite numbers is refused with the place in it."""
    assert outcome(lambda: READER.read_npy(body))[:2] == (loc, kind)


def test_npy_of_objects() -> None:
    """A file of Python objects would have to be unpickled: it is refused unopened."""
    file = io.BytesIO()
    np.save(file, np.asarray([[{}, 1, 2]], dtype=object))
    with pytest.raises(InvalidInput, match="unpickled"):
        READER.read_npy(file.getvalue())
