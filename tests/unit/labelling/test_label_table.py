"""Tables of labels as files have them: read in parts, each row with its line."""

from __future__ import annotations

import gzip
import io
from contextlib import closing
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from bento_selfheal.errors import InvalidInput
from bento_selfheal.labelling.cells import item_of
from bento_selfheal.labelling.classes import LabelReader
from bento_selfheal.labelling.table import Rows, open_table


def read(data: bytes, columns: tuple[str, ...] = ("id", "y"), size: int = 2) -> list[Rows]:
    with closing(open_table(io.BytesIO(data))) as table:
        return list(table.parts(columns, size))


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"id,y,z\na,1,x\nb,0,x\nc,1,x\n",
        b"\xef\xbb\xbfid;y;z\r\na;1;x\r\nb;0;x\r\nc;1;x",
        "id\ty\tz\na\t1\tx\nb\t0\tx\nc\t1\tx\n".encode("utf-16"),
        gzip.compress(b"id,y,z\na,1,x\nb,0,x\nc,1,x\n", mtime=0),
        parquet(id=["a", "b", "c"], y=["1", "0", "1"], z=["x", "x", "x"]),
    ],
    ids=["comma", "semicolon and mark", "utf-16", "gzip", "parquet"],
)
def test_parts(data: bytes) -> None:
    """A table comes in parts of the size asked for, with the columns asked for."""
    parts = read(data)
    assert [part.cells for part in parts] == [
        {"id": ["a", "b"], "y": ["1", "0"]}, {"id": ["c"], "y": ["1"]},
    ]  # fmt: skip


def test_lines() -> None:
    """A row's line is where it begins, also behind empty lines and cells of several lines."""
    data = b'id,y\n\n"a\nb",1\nc,0\n\nd,1\n'
    assert [line for part in read(data) for line in part.lines] == [3, 5, 7]


def test_wrong_rows() -> None:
    """A row of another width, or that is not UTF-8, is wrong by itself and says why."""
    (rows,) = read(b"id,y\na,1,2\nb\nc\xe9,1\nd,1\n", size=9)
    assert rows.wrong == {
        0: "3 cells where the header has 2",
        1: "1 cell where the header has 2",
        2: "id: 'c\\udce9' is not UTF-8",
    }
    assert rows.cells["id"] == [None, None, None, "d"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04...", "a zip or Excel file"),
        (b"PAR1 and nothing else", "cannot be read as Parquet"),
        (gzip.compress(b"id,y\n" + b"a,1\n" * 99, mtime=0)[:20], "cannot be read"),
    ],
)
def test_no_table(data: bytes, said: str) -> None:
    """What is no table says what it is instead."""
    with pytest.raises(ValueError, match=said):
        read(data)


def test_one_long_text_for_all_rows() -> None:
    """A column whose rows share one text through a dictionary holds it once in memory."""
    long = "x" * 1_000_000
    data = parquet(id=pa.array([long] * 3000).dictionary_encode(), y=[1] * 3000)
    values = [value for part in read(data, size=1000) for value in part.cells["id"]]
    assert len(values) == 3000
    assert len({id(value) for value in values}) < 10


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("1970-01-02", 86_400.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("12.5", 12.5),
        (12, 12.0),
        (datetime(1970, 1, 1, 0, 1), 60.0),
        ("", None),
    ],
)
def test_times(given: Any, seconds: float | None) -> None:
    """A time is ISO 8601 or seconds since the epoch; without a zone it is UTC."""
    assert item_of({"label": 1, "key": "a", "time": given}, ()).time == seconds


@pytest.mark.parametrize(
    ("cells", "place"),
    [
        ({"key": "x" * 201}, "key"),
        ({"key": 17.0}, "key"),
        ({"key": "a\0"}, "key"),
        ({"source": 5}, "source"),
        ({"corrects": "perhaps"}, "corrects"),
        ({"time": "yesterday"}, "time"),
        ({"time": "nan"}, "time"),
    ],
)
def test_bad_cells(cells: dict[str, Any], place: str) -> None:
    """A bad cell is refused with its row, its column and its value."""
    with pytest.raises(InvalidInput) as refused:
        item_of({"label": 1, "key": "a", **cells}, ("items", 7))
    assert refused.value.loc == ("items", 7, place)
    assert "got" in refused.value.msg


def test_labels_of_tools() -> None:
    """``1.0``, as tools write 1 beside gaps, is the class 1, unless another class has that text."""
    assert LabelReader([0, 1]).read("1.0", ()) == (1, None)
    assert LabelReader([1, "1.0"]).read("1.0", ()) == (1, None)
    with pytest.raises(InvalidInput):
        LabelReader([0, 1]).read("1.5", ())
