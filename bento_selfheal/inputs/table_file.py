"""A table from a file as it lies: its form is found out, and what was found is told."""

from __future__ import annotations

import csv
import functools
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from bento_selfheal.core.text import counted
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.plain_table import note_markers, plain_table
from bento_selfheal.inputs.text_values import (
    has_comma_numbers,
    markers_in,
    typed,
    without_markers,
)

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
SAMPLED_LINES = 50
"""Lines from the start that say which character separates."""
SAMPLED_TEXT = 100_000
LEAST_NAMES = 2
"""Of fewer columns, a line like the name may be a value."""
UNNAMED = "Unnamed: {}"
"""What pandas calls a column without a name, so that its data frames fit."""
FOREIGN = {b"PK\x03\x04": "a zip or Excel file", b"ARROW1": "an Arrow file", b"%PDF": "a PDF"}
BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
"""Byte order marks with their encodings; the longer first, as one begins like another."""


@dataclass(frozen=True)
class TableFile:
    """What a file holds, and how it was read.

    Attributes:
        table: Its rows. Numbers, booleans, dates, timestamps and text; null where one is missing.
        notes: Sentences that say what was read, why, and what was not.
    """

    table: pa.Table
    notes: tuple[str, ...]


def read_file(path: Path) -> TableFile:
    """Read a CSV or Parquet file, gzipped or not, by what is in it rather than by its name.

    Separator, encoding, decimal mark, missing markers and types are found out.

    Raises:
        SettingsError: The file cannot be read, repeats a column's name or has no rows.
    """
    if not path.is_file():
        raise SettingsError(f"file: {path} does not exist")
    data, notes = _unpacked(path)
    if data.startswith(b"PAR1") or path.suffix.lower() in (".parquet", ".pq"):
        table = _parquet(data, path, notes)
    else:
        table = _csv(data, path, notes)
    if not table.num_rows:
        raise SettingsError(f"file: {path} has no rows")
    notes.append(f"{counted(table.num_rows, 'row')}, {counted(table.num_columns, 'column')}")
    return TableFile(table, tuple(notes))


def _unpacked(path: Path) -> tuple[bytes, list[str]]:
    data = path.read_bytes()
    for start, name in FOREIGN.items():
        if data.startswith(start):
            raise SettingsError(f"file: {path} is {name}; CSV and Parquet are read")
    if not data.startswith(b"\x1f\x8b"):
        return data, []
    try:
        return gzip.decompress(data), ["compression: gzip"]
    except (OSError, EOFError, zlib.error) as error:
        raise SettingsError(f"file: {path} is damaged gzip: {error}") from error


def _parquet(data: bytes, path: Path, notes: list[str]) -> pa.Table:
    try:
        table = pa.parquet.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise SettingsError(f"file: {path} cannot be read as Parquet: {error}") from error
    notes.append("format: Parquet")
    names = _distinct([name.strip() for name in table.column_names], path)
    return plain_table(table.rename_columns(names), notes)


def _csv(data: bytes, path: Path, notes: list[str]) -> pa.Table:
    text, encoding = _decoded(data, path)
    notes.append(f"encoding: {encoding}")
    if declared := re.match(r"sep=(.)\r?\n", text):
        text = text[declared.end() :]
    separator = declared.group(1) if declared else _separator(text)
    notes.append(f"separator: {SEPARATORS.get(separator, repr(separator))}")
    cells = _cells(text, separator, path)
    header = [(cell[0].as_py() or "").strip() for cell in cells.columns] if len(cells) else []
    raw = _without_headers(cells, notes).columns
    # A separator at the end of each line makes a column that is none.
    kept = [i for i, name in enumerate(header) if name or not _empty(raw[i])]
    for i, name in enumerate(header):
        if i not in kept:
            notes.append(f"column {i + 1} has neither name nor values: not read")
        elif not name:
            header[i] = UNNAMED.format(i)
            notes.append(f"column {i + 1} has no name: read as {header[i]!r}")
    names = _distinct([header[i] for i in kept], path)
    return pa.table(_values([raw[i] for i in kept], separator, notes), names=names)


def _without_headers(cells: pa.Table, notes: list[str]) -> pa.Table:
    """The rows below the names; also without lines that repeat all names, as files have that were
    put together of several."""
    below = cells.slice(1)
    if cells.num_columns < LEAST_NAMES or not len(below):
        return below
    same = [pc.equal(column, column[0]) for column in cells.columns]
    repeats = functools.reduce(pc.and_, same).slice(1)
    if found := pc.sum(repeats).as_py():
        notes.append(f"{counted(found, 'line repeats', 'lines repeat')} the column names: left out")
    return below.filter(pc.invert(repeats))


def _empty(column: pa.ChunkedArray) -> bool:
    return bool(without_markers(column).null_count == len(column))


def _values(raw: list[pa.ChunkedArray], separator: str, notes: list[str]) -> list[pa.ChunkedArray]:
    """Columns of text become columns of their types."""
    note_markers(sum((markers_in(column) for column in raw), Counter()), notes)
    texts = [without_markers(column) for column in raw]
    comma = any(has_comma_numbers(text, separator) for text in texts)
    if comma:
        notes.append("decimal mark: comma")
    return [typed(text, comma) for text in texts]


def _decoded(data: bytes, path: Path) -> tuple[str, str]:
    """The text of a file, and the name of its encoding."""
    text, name = _decode(data, path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise SettingsError(f"file: {path} is not text: line {line} holds a zero byte")
    return text, name


def _decode(data: bytes, path: Path) -> tuple[str, str]:
    encoding = next((name for bom, name in BOMS if data.startswith(bom)), "") or _wide(data)
    if encoding:
        try:
            return data.decode(encoding), encoding.upper().replace("-SIG", " with byte order mark")
        except UnicodeDecodeError as error:
            raise SettingsError(f"file: {path} begins as {encoding}, but {error}") from error
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        why = f"line {line} is not UTF-8"
    # Windows-1252 is Latin-1 with characters for the control codes that no text has.
    if any(0x80 <= byte <= 0x9F for byte in set(data)):
        try:
            return data.decode("cp1252"), f"Windows-1252, as {why}"
        except UnicodeDecodeError:
            pass
    return data.decode("latin-1"), f"Latin-1, as {why}"


def _wide(data: bytes) -> str:
    """UTF-16 without a byte order mark: most text has zeros in every other byte."""
    start = data[:1000]
    if len(start) < 4:
        return ""
    if start[1::2].count(0) > 0.4 * len(start) and not start[::2].count(0):
        return "utf-16-le"
    if start[::2].count(0) > 0.4 * len(start) and not start[1::2].count(0):
        return "utf-16-be"
    return ""


def _separator(text: str) -> str:
    """The character that parts the most lines into as many cells as the first, and the most."""

    def merit(separator: str) -> tuple[float, int]:
        sample = io.StringIO(text[:SAMPLED_TEXT], newline="")
        lines = csv.reader(sample, delimiter=separator, skipinitialspace=True)
        widths = [len(line) for line in itertools.islice(lines, SAMPLED_LINES) if line]
        if not widths or widths[0] == 1:
            return (0.0, 0)
        return (widths.count(widths[0]) / len(widths), widths[0])

    return max(SEPARATORS, key=merit)


def _cells(text: str, separator: str, path: Path) -> pa.Table:
    """All cells as text, the names in the first row."""
    if f'{separator} "' in text:
        # Arrow takes a quote for one only at the start of a cell.
        lines = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True
        )
        rewritten = io.StringIO(newline="")
        csv.writer(rewritten, delimiter=separator).writerows(lines)
        text = rewritten.getvalue()
    first: list[str] = next(
        (line for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if line),
        [],
    )
    if not first:
        raise SettingsError(f"file: {path} has no rows")
    # Arrow takes a single line without an end for none.
    data = (text if text.endswith(("\n", "\r")) else f"{text}\n").encode()
    try:
        # One block and one thread: an error then tells its row.
        return pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, autogenerate_column_names=True
            ),
            parse_options=pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types={f"f{i}": pa.string() for i in range(len(first))}
            ),
        )
    except pa.ArrowInvalid as error:
        raise SettingsError(f"file: {path} cannot be read: {error}") from error


def _distinct(names: list[str], path: Path) -> list[str]:
    """The names, if each is there once.

    Raises:
        SettingsError: A name is repeated.
    """
    for name, count in Counter(names).items():
        if count > 1:
            places = [i + 1 for i, other in enumerate(names) if other == name]
            raise SettingsError(
                f"file: {path} repeats the column name {name!r} in columns {places}; rename one"
            )
    return names
