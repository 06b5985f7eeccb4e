"""Rows as an Arrow stream: each the same as by JSON; what is no stream is refused in words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixed import COLUMNS, NAMES, flights

from bento_selfheal.errors import InvalidInput
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.serving.reading.arrow_rows import rows_of
from bento_selfheal.serving.reading.rows import RowReader
from bento_selfheal.serving.reading.typed_rows import TypedRowReader
from bento_selfheal.wire import arrow

READER = TypedRowReader(COLUMNS, max_rows=100)
PLAIN = RowReader(["a", "b"], max_rows=100)
TYPED = [
    Column(name="n", nullable=True, origin=0.1),
    Column(name="i", kind=Kind.INTEGER, nullable=True),
    Column(name="b", kind=Kind.BOOLEAN, nullable=True),
    Column(name="c", kind=Kind.CATEGORY, nullable=True, levels=("x", "1", "1.5", "True")),
    Column(name="t", kind=Kind.DATETIME, nullable=True, origin=20_000.3),
]
ROWS = TypedRowReader(TYPED, max_rows=100)
ZONE = timezone(timedelta(hours=5, minutes=30))


def runs(values: Any, ends: list[int]) -> pa.Array:
    """Values that repeat up to these rows."""
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), values)


def by_json(reader: RowReader, rows: list[Any]) -> Any:
    body = json.dumps({"rows": rows}, default=lambda v: v.isoformat()).encode()
    read = reader.read_json(body)
    return None if read is None else read[0]


def table(rows: list[list[Any]], names: list[str]) -> pa.Table:
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def refused(body: bytes, reader: RowReader = READER) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        rows_of(reader, body)
    return refusal.value


def test_flights_by_name_in_any_order() -> None:
    """A table is what its rows are by JSON, whatever the order of its columns and its batches."""
    rows, _ = flights(30)
    rows[3] = [None, 2, None, None, None]
    rows[4][3] = "volcanic ash"
    whole = table(rows, NAMES).select(NAMES[::-1])
    expected = by_json(READER, rows)
    pieces = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 0), whole.slice(7)])
    encoded = whole.set_column(1, "sky", whole["sky"].dictionary_encode())
    for one in (whole, pieces, encoded):
        found = rows_of(READER, arrow.dump(one))[0]
        assert found.dtype == np.float32
        assert np.array_equal(found, expected, equal_nan=True)


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(-1e30, 1e30) | st.floats(-(2.0**99), 2.0**99, width=32),
            st.none() | st.integers(-(2**62), 2**62),
            st.none() | st.booleans(),
            st.none() | st.sampled_from(["x", " x ", "1", "NA", "", "y", "\u00e9"]),
            st.none() | st.datetimes(datetime(1850, 1, 1), datetime(2250, 1, 1)),
        ).map(list),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_any_row_is_the_same_by_json(rows: list[list[Any]]) -> None:
    """To the bit, so that what is logged is the same too."""
    found = rows_of(ROWS, arrow.dump(table(rows, [c.name for c in TYPED])))[0]
    assert found.tobytes() == by_json(ROWS, rows).tobytes()


@pytest.mark.parametrize(
    ("name", "values", "same"),
    [
        ("n", pa.array([1, None, 300], pa.uint16()), [1, None, 300]),
        ("n", pa.array([1.5, math.nan], pa.float16()), [1.5, None]),
        ("n", pa.array([Decimal("0.10"), None]), [0.1, None]),
        ("n", pa.array([Decimal("0.10"), None], pa.decimal32(5, 2)), [0.1, None]),
        ("i", pa.array([Decimal("7.0"), None], pa.decimal64(9, 1)), [7, None]),
        ("n", pa.nulls(2), [None, None]),
        ("i", pa.array([2.0, None]), [2.0, None]),
        ("i", pa.array([Decimal("7.0")]), [7]),
        ("b", pa.array([0, 1], pa.int8()), [0, 1]),
        ("b", pa.array([0.0, None]), [0.0, None]),
        ("c", pa.array([1, None, 2]), [1, None, 2]),
        ("c", pa.array([1.5, math.nan]), [1.5, None]),
        ("c", pa.array([True, False]), [True, False]),
        ("c", pa.array(["x", None, "z"], pa.large_string()), ["x", None, "z"]),
        ("c", pa.array(["x", "z"], pa.string_view()), ["x", "z"]),
        ("c", pa.array(["x", "z", "x"], pa.string_view()).dictionary_encode(), ["x", "z", "x"]),
        ("c", pa.array([1, None]).dictionary_encode(), [1, None]),
        ("c", pa.DictionaryArray.from_arrays([0, None, 1], ["x", None]), ["x", None, None]),
        ("t", pa.array(["2026-11-28", "2026-11-28T09:30:00Z"]),
         ["2026-11-28", "2026-11-28T09:30:00Z"]),
        ("t", pa.array([date(2026, 11, 28), None], pa.date64()), [date(2026, 11, 28), None]),
        ("t", pa.array([date(1, 1, 1), date(9999, 12, 31)]), [date(1, 1, 1), date(9999, 12, 31)]),
        ("t", pa.array([datetime(2026, 11, 28, 9, 30, tzinfo=ZONE)]),
         [datetime(2026, 11, 28, 9, 30, tzinfo=ZONE)]),
        ("t", pa.array([datetime(2026, 11, 28, 9, tzinfo=UTC)], pa.timestamp("s", "Europe/Berlin")),
         ["2026-11-28T10:00:00+01:00"]),
        ("t", pa.array([1_795_858_200_123_456_789], pa.timestamp("ns")),
         ["2026-11-28T09:30:00.123456789"]),
        ("t", pa.array([-1], pa.timestamp("ns")), ["1969-12-31T23:59:59.999999999"]),
        ("t", pa.array([date(2026, 11, 28), None, date(2026, 11, 28)]).dictionary_encode(),
         ["2026-11-28", None, "2026-11-28"]),
        ("t", pa.array([datetime(2026, 11, 28, 9, tzinfo=UTC)], pa.timestamp("s", "Europe/Berlin"))
         .dictionary_encode(), ["2026-11-28T10:00:00+01:00"]),
        ("t", pa.DictionaryArray.from_arrays([1, 0], pa.array([date(2026, 11, 28), None])),
         [None, "2026-11-28"]),
        ("t", runs([date(2026, 11, 28), None], [2, 3]), ["2026-11-28", "2026-11-28", None]),
        ("t", runs([datetime(2026, 11, 28, 9, 30)], [1]), ["2026-11-28T09:30:00"]),
        ("t", runs(pa.array([date(2026, 11, 28)]).dictionary_encode(), [2]), ["2026-11-28"] * 2),
        ("n", runs([1.5, None], [1, 3]), [1.5, None, None]),
        ("c", runs(["x", "z", "x"], [2, 3, 4]), ["x", "x", "z", "x"]),
        ("c", runs(pa.array(["x", "z"], pa.string_view()), [2, 3]), ["x", "x", "z"]),
        ("b", runs([True, None], [2, 3]), [True, True, None]),
        ("n", runs(pa.nulls(1), [2]), [None, None]),
    ],
)  # fmt: skip
def test_a_type_is_read_as_json_is(name: str, values: pa.Array, same: list[Any]) -> None:
    """Whatever type a library gives a column, its values are those of JSON."""
    reader = TypedRowReader([c for c in TYPED if c.name == name], max_rows=100)
    found = rows_of(reader, arrow.dump(pa.table({name: values})))[0]
    assert found.tobytes() == by_json(reader, [[value] for value in same]).tobytes()


@pytest.mark.parametrize(
    ("name", "values", "row", "said"),
    [
        ("n", pa.array([1.0, math.inf]), 1, "a finite number or null is needed, got inf"),
        ("n", pa.array([True]), 0, "a finite number or null is needed, got True"),
        ("n", pa.array([None, "12"]), 1, "a finite number or null is needed, got '12'"),
        ("i", pa.array([1.0, 2.5]), 1, "a whole number or null is needed, got 2.5"),
        ("b", pa.array([0, 1, 2]), 2, "true or false or null is needed, got 2"),
        ("c", pa.array([b"x"]), 0, "a text or null is needed, got b'x'"),
        ("c", pa.array([[1, 2]]), 0, "a text or null is needed, got 'a value of type list"),
        ("c", pa.array([None, date(2026, 1, 1)]), 1, "a text or null is needed, got '2026-01-01'"),
        ("n", pa.array([timedelta(1)]), 0, "got 'a value of type duration[us]'"),
        ("t", pa.array([1, 2]), 0, "a date such as"),
        ("t", pa.array(["soon"]).dictionary_encode(), 0, "2026-11-28T09:30:00Z or null is needed, "
         "got 'soon'"),
        ("t", pa.array([2**60], pa.timestamp("s")), 0, "or null is needed, got "),
        ("t", pa.array([2**60], pa.timestamp("s")).dictionary_encode(), 0, "or null is needed, "),
        ("t", pa.array([timedelta(1)]).dictionary_encode(), 0, "got 'a value of type duration"),
        ("t", runs(["2026-11-28", "soon"], [2, 3]), 2, "or null is needed, got 'soon'"),
        ("n", runs([1.0, None, math.inf], [1, 2, 9]), 2, "a finite number or null is needed, got"),
        ("c", runs([date(2026, 11, 28)], [1]), 0, "a text or null is needed, got '2026-11-28'"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named(name: str, values: pa.Array, row: int, said: str) -> None:
    """With row, column and value, and what belongs there."""
    reader = TypedRowReader([c for c in TYPED if c.name == name], max_rows=100)
    error = refused(arrow.dump(pa.table({name: values})), reader)
    assert error.loc == ("rows", row, name)
    assert said in error.msg


def test_a_number_for_a_category_of_texts() -> None:
    """It is refused as by JSON, also in a dictionary."""
    sky = TypedRowReader([c for c in COLUMNS if c.name == "sky"], max_rows=100)
    for values in (pa.array([None, 1234]), pa.array([None, 1234]).dictionary_encode()):
        error = refused(arrow.dump(pa.table({"sky": values})), sky)
        assert (error.loc, error.msg) == (
            ("rows", 1, "sky"), "a text or null is needed, got 1234",
        )  # fmt: skip


def test_plain_numbers() -> None:
    """Of a table of numbers alone, rows are the same as by JSON, and a gap is none."""
    rows = [[0.1, -7], [1e-30, 2**53 + 1], [-0.0, 7]]
    found = rows_of(PLAIN, arrow.dump(table(rows, ["a", "b"])))[0]
    assert found.tobytes() == by_json(PLAIN, rows).tobytes()
    error = refused(arrow.dump(pa.table({"b": [1, 2], "a": [0.5, None]})), PLAIN)
    assert (error.loc, error.msg) == (("rows", 1, "a"), "a finite number is needed, got null")
    assert "got 1e+39" in refused(arrow.dump(pa.table({"b": [1e39], "a": [0.5]})), PLAIN).msg


def test_columns_that_are_not_the_models() -> None:
    """All of them are named in one message, as for JSON; the first is the place of the error."""
    strange = pa.table({"a": [1.0], "x": [1], "y": [2]})
    said = "unknown: 'x', 'y'; missing: 'b'"
    error = refused(arrow.dump(strange), PLAIN)
    assert (error.loc, error.msg) == (("body", "x"), said)
    with pytest.raises(InvalidInput) as of_json:
        PLAIN.read([dict.fromkeys(strange.column_names, 1)])
    assert of_json.value.msg == said
    more = refused(arrow.dump(pa.table({"a": [1], "b": [1], "label": [1]})), PLAIN)
    assert (more.loc, more.msg) == (("body", "label"), "unknown feature")
    twice = pa.table([[1], [2], [3]], names=["a", "b", "a"])
    assert "column 'a' occurs more than once" in refused(arrow.dump(twice), PLAIN).msg
    many = pa.table({f"x{i}": [1] for i in range(500)})
    assert refused(arrow.dump(many), PLAIN).msg.endswith("'x9' and 490 more; missing: 'a', 'b'")


def compressed(one: pa.Table, how: str) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=how)
    with pa.ipc.new_stream(sink, one.schema, options=options) as writer:
        writer.write_table(one)
    return bytes(sink.getvalue())


GOOD = arrow.dump(pa.table({"a": [1.0, 2.0], "b": [3.0, 4.0]}))


def feather() -> bytes:
    sink = pa.BufferOutputStream()
    pa.feather.write_feather(pa.table({"a": [1.0], "b": [2.0]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (lambda: b"", "there is nothing in it"),
        (lambda: b"no stream at all", "it cannot be read"),
        (lambda: b'{"rows": [[1, 2]]}', "this is JSON"),
        (feather, "this is an Arrow file (Feather), not a stream: write it with"),
        (lambda: b"PAR1....", "this is a Parquet file"),
        (lambda: GOOD[:-20], "it cannot be read: Expected to be able to read"),
        (lambda: GOOD + GOOD, "something follows its end"),
        (lambda: arrow.dump(pa.table({"a": [1.0], "b": [1.0]}).slice(0, 0)), "the batch is empty"),
        (lambda: arrow.dump(pa.table({"a": [1.0] * 101, "b": [1.0] * 101})),
         "101 rows are over the limit of 100"),
        (lambda: arrow.dump(pa.table({"a": pa.nulls(2**31 - 1)})),
         "rows are over the limit of 100"),
    ],
)  # fmt: skip
def test_what_is_no_stream_of_rows(body: Callable[[], bytes], said: str) -> None:
    """It is refused with what it is."""
    error = refused(body(), PLAIN)
    assert said in error.msg
    assert error.loc in [("body",), ("rows",)]


@pytest.mark.parametrize("how", ["zstd", "lz4"])
def test_a_bomb_is_not_unpacked(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed buffers are read, up to what they announce."""
    one = pa.table({"a": np.zeros(100), "b": np.ones(100)})
    assert rows_of(PLAIN, compressed(one, how))[0].sum() == 100
    bomb = pa.table({"a": ["x" * 200_000_000]})
    before = pa.total_allocated_bytes()
    body = compressed(bomb, how)
    assert len(body) < 1_000_000
    del bomb
    monkeypatch.setattr(pa.ipc, "open_stream", None)  # which would unpack it
    assert "it unpacks to more than 100 MB" in refused(body, PLAIN).msg
    assert pa.total_allocated_bytes() <= before
    # The same in a dictionary, of which one value is used.
    levels = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["x" * 200_000_000])
    assert "it unpacks to" in refused(compressed(pa.table({"a": levels}), how), PLAIN).msg


def same_text(rows: int, size: int) -> pa.Array:
    """Views of the same bytes, none of them like another."""
    views = np.asarray(
        [[size - i, int.from_bytes(b"aaaa", "little"), 0, 0] for i in range(rows)], "<i4"
    )
    buffers = [None, pa.py_buffer(views.tobytes()), pa.py_buffer(b"a" * size)]
    return pa.Array.from_buffers(pa.string_view(), rows, buffers)


@pytest.mark.parametrize("encoded", [False, True])
def test_views_of_the_same_bytes_are_not_spread(encoded: bool) -> None:
    """Each row may show the same megabytes, which are then gigabytes once they are read."""
    shown = same_text(60, 2_000_000)
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), shown) if encoded else shown
    reader = TypedRowReader([c for c in TYPED if c.name == "c"], max_rows=100)
    body = arrow.dump(pa.table({"c": column}))
    assert "its views show more than 100 MB of text" in refused(body, reader).msg
    few = arrow.dump(pa.table({"c": shown.slice(0, 2)}))
    assert rows_of(reader, few)[0].tolist() == [[4.0], [4.0]]


def test_runs_are_not_spread() -> None:
    """A megabyte of text that repeats is read once, and as many rows as of any other request; runs
    that views show count as views do."""
    reader = TypedRowReader([c for c in TYPED if c.name == "c"], max_rows=100)
    many = arrow.dump(pa.table({"c": runs(["x" * 1_000_000], [2**31 - 1])}))
    assert "rows are over the limit of 100" in refused(many, reader).msg
    large = pa.table({"c": runs(["x", "y" * 1_000_000], [1, 100])})
    assert rows_of(reader, arrow.dump(large))[0].sum() == 99 * 4
    views = same_text(60, 2_000_000)
    body = arrow.dump(pa.table({"c": runs(views, list(range(1, 61)))}))
    assert "its views show more than 100 MB of text" in refused(body, reader).msg


def test_a_stream_of_a_myriad_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch costs time, however empty it is."""
    monkeypatch.setattr(arrow, "MOST_MESSAGES", 20)
    one, sink = pa.table({"a": [1.0], "b": [1.0]}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, one.schema) as writer:
        for _ in range(30):
            writer.write_batch(one.to_batches()[0].slice(0, 0))
    assert "more than 20 messages" in refused(bytes(sink.getvalue()), PLAIN).msg


def in_batches(columns: list[pa.Array]) -> bytes:
    """A stream with a batch for each."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("c", columns[0].type)])) as writer:
        for one in columns:
            writer.write_batch(pa.record_batch([one], names=["c"]))
    return bytes(sink.getvalue())


def test_small_batches_are_read_at_once() -> None:
    """A reader takes time for each piece, so that thousands of empty ones would take a minute;
    dictionaries that cannot be put together are read while they are few."""
    reader = TypedRowReader([c for c in TYPED if c.name == "c"], max_rows=100)
    assert arrow.table_in(in_batches([pa.array(["x"])] * 50))["c"].num_chunks == 1
    several = [pa.array([f"x{i}", "1"]).dictionary_encode() for i in range(3)]
    assert rows_of(reader, in_batches(several))[0].ravel().tolist() == [4, 1, 4, 1, 4, 1]
    repeated = [runs(["x", f"x{i}"], [1, 3]) for i in range(3)]
    assert rows_of(reader, in_batches(repeated))[0].ravel().tolist() == [0, 4, 4] * 3
    gaps = [pa.DictionaryArray.from_arrays([0, 1], ["x", None if i else "y"]) for i in range(2)]
    assert np.isnan(rows_of(reader, in_batches(gaps))[0]).sum() == 1
    tiny, last = pa.array([0], pa.int8()), pa.array([], pa.int8())
    many = [
        pa.DictionaryArray.from_arrays(last if i else tiny, pa.array([f"x{i}"])) for i in range(200)
    ]
    assert "These dictionaries cannot be combined" in refused(in_batches(many), reader).msg


@pytest.mark.parametrize("scale", [-100, 39, 2_000_000_000])
@pytest.mark.parametrize("kind", [pa.decimal64, pa.decimal128])
def test_decimals_that_python_cannot_read(kind: Any, scale: int) -> None:
    """Arrow lets a scale be what it likes; such a column is refused by its type."""
    buffers = [None, pa.py_buffer(b"\1" + bytes(15))]
    odd = pa.Array.from_buffers(kind(18, scale), 1, buffers)
    assert (
        "a value of type decimal"
        in refused(arrow.dump(pa.table({"a": odd, "b": [1.0]})), PLAIN).msg
    )


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damage_is_refused_or_read(damage: list[tuple[int, int]]) -> None:
    """Bytes that were changed on the way give rows or a refusal, never another error or a crash."""
    one = table([[*flights(5)[0][i][:3], "fog", "2026-11-28"] for i in range(5)], NAMES)
    body = bytearray(arrow.dump(one.set_column(3, "sky", one["sky"].dictionary_encode())))
    for place, value in damage:
        body[place % len(body)] = value
    with suppress(InvalidInput):
        assert rows_of(READER, bytes(body))[0].shape[1] == len(NAMES)
