"""Files as they lie: separators, encodings, decimal marks, missing markers, and what is refused."""

from __future__ import annotations

import gzip
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from elec2 import CASES, needs_cases

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.table_file import TableFile, read_file

ROWS = {"name": ["Zoë", None], "size": [1.5, 2.0], "ok": [True, False]}


def read(path: Path, data: bytes) -> TableFile:
    path.write_bytes(data)
    return read_file(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("space", ["", " "])
def test_separators(tmp_path: Path, separator: str, space: str) -> None:
    """Each separator is found, with spaces after it or not, and in quotes it is text."""
    apart = separator + space
    lines = [("name", "size", "ok"), ("Zoë", "1.5", "true"), ("?", "2.0", "False")]
    text = "".join(apart.join(line) + "\n" for line in lines)
    assert read(tmp_path / "a.txt", text.encode()).table.to_pydict() == ROWS
    quoted = text.replace("1.5", f'"x{separator} y"')
    cells = read(tmp_path / "b.txt", quoted.encode()).table.to_pydict()
    assert cells["size"] == [f"x{separator} y", "2.0"]


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "byte order mark"), ("utf-16", "UTF-16"),
     ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("latin-1", "Latin-1, as line 2")],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".csv", ".CSV.GZ"])
def test_encodings(tmp_path: Path, encoding: str, said: str, ending: str) -> None:
    """A file gives the same table in every encoding, gzipped or not, and the encoding is told."""
    data = "name,size,ok\nZoë,1.5,true\n,2.0,false\n".encode(encoding)
    if ending.lower().endswith("gz"):
        data = gzip.compress(data, mtime=0)
    found = read(tmp_path / f"a{ending}", data)
    assert found.table.to_pydict() == ROWS
    assert any(said in note for note in found.notes)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "1.234,25", "NA"], [1.5, 1234.25, None]),
        (["?", "N/A", "7"], [None, None, 7]),
        (["null", "NaN", " "], [None, None, None]),
        (["TRUE", "false", ""], [True, False, None]),
        (["2026-11-28", "?", "2026-11-29"], [date(2026, 11, 28), None, date(2026, 11, 29)]),
        (["2026-11-28T09:30:00", "2026-11-28 10:00:00", ""],
         [datetime(2026, 11, 28, 9, 30), datetime(2026, 11, 28, 10), None]),
        (["9007199254740993", "1", "2"], [9007199254740993, 1, 2]),
        (["red ", "7", "?"], ["red", "7", None]),
    ],
)  # fmt: skip
def test_values(tmp_path: Path, cells: list[str], values: list[Any]) -> None:
    """Numbers, booleans, dates and text are told apart, whatever stands for a missing value."""
    text = "a;b\n" + "".join(f"{cell};x\n" for cell in cells)
    assert read(tmp_path / "a.csv", text.encode()).table["a"].to_pylist() == values


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    """A separator at the end of each line makes no column; a column without a name has one."""
    found = read(tmp_path / "a.csv", b",a,\n0,?,\n1,x,\n")
    assert found.table.column_names == ["Unnamed: 0", "a"]
    assert "column 3 has neither name nor values: not read" in found.notes
    assert "column 1 has no name: read as 'Unnamed: 0'" in found.notes
    assert "missing values: '?' (1)" in found.notes


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"a,b\n1,2\n3\n", "a.csv.*Row #3.*3"),
        ("a.csv", b"a,b,a\n1,2,3\n", r"a.csv repeats the column name 'a' in columns \[1, 3\]"),
        ("a.csv", b"a,b\n", "a.csv has no rows"),
        ("a.csv", b"", "a.csv has no rows"),
        ("a.csv", b"a,b\n1,\0\n", "a.csv is not text: line 2"),
        ("a.csv", b"PK\x03\x04", "a.csv is a zip or Excel file"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "a.csv.gz is damaged gzip"),
        ("a.PQ", b"PAR1", "a.PQ cannot be read as Parquet"),
    ],
)
def test_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    """What cannot be read is refused with the file, and the line or column."""
    with pytest.raises(SettingsError, match=said):
        read(tmp_path / name, data)


def test_no_such_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(SettingsError, match=r"none\.csv does not exist"):
        read_file(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["a.parquet", "a.PARQUET", "a.pq"])
def test_parquet(tmp_path: Path, name: str) -> None:
    """In Parquet too, NaN and markers are missing, and text of numbers becomes numbers, unless it
    was declared as categories."""
    table = pa.table({
        "x": [1.5, float("nan")], "text": ["3", " ?"],
        "declared": pa.array(["1", "2"]).dictionary_encode(),
    })  # fmt: skip
    pa.parquet.write_table(table, tmp_path / name)
    found = read_file(tmp_path / name)
    assert found.table.to_pydict() == {"x": [1.5, None], "text": [3, None], "declared": ["1", "2"]}
    assert "column 'text': text, read as int64" in found.notes


@needs_cases
@pytest.mark.parametrize(
    ("name", "column", "first"),
    [("EXPORT.PARQUET", "left", None), ("latin1_label.csv", "left", "thé"),
     ("latin1_header.csv", "âge", 1), ("empty_label.csv", "left", None),
     ("index_column.csv", "Unnamed: 0", 0)],
)  # fmt: skip
def test_cases(name: str, column: str, first: object) -> None:
    """Files that once failed."""
    assert read_file(CASES / name).table[column][0].as_py() == first


def test_codes_keep_their_zeros(tmp_path: Path) -> None:
    """What begins with a zero is no number: a postcode stays what it is."""
    path = tmp_path / "a.csv"
    path.write_text("zip,n,hour\n01067,1,01\n80331,20,12\n")
    table = read_file(path).table
    assert table.column("hour").to_pylist() == [1, 12]
    assert table.column("zip").to_pylist() == ["01067", "80331"]
    assert table.column("n").to_pylist() == [1, 20]


def test_repeated_names_are_no_row(tmp_path: Path) -> None:
    """A file that was put together of several names its columns again; one column may hold its
    name as a value."""
    found = read(tmp_path / "a.csv", b"a,b\n1,x\na,b\n2,b\na,b\n")
    assert found.table.to_pydict() == {"a": [1, 2], "b": ["x", "b"]}
    assert "2 lines repeat the column names: left out" in found.notes
    assert read(tmp_path / "b.csv", b"a\na\nb\n").table.to_pydict() == {"a": ["a", "b"]}


@pytest.mark.parametrize("data", [b"a,b", b"a,b\n", b"a,b\r", b"a", b"a,b\na,b\n"])
def test_names_alone_are_no_rows(tmp_path: Path, data: bytes) -> None:
    """Also where the only line has no end."""
    with pytest.raises(SettingsError, match=r"a\.csv has no rows"):
        read(tmp_path / "a.csv", data)
