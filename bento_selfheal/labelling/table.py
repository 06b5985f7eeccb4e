"""Tables of labels in files and bodies: read in parts, so that memory stays bounded.

This module imports pyarrow where Parquet is read, and nowhere else.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO, Protocol

from bento_selfheal.core.text import counted, shown

SAMPLED = 100_000
"""Bytes from the start that say which character separates."""
SEPARATORS = (",", ";", "\t", "|")
BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
FOREIGN = {b"PK\x03\x04": "a zip or Excel file", b"ARROW1": "an Arrow file", b"%PDF": "a PDF"}
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"


@dataclass
class Rows:
    """Some rows of a table."""

    lines: list[int]
    """Where each stands: its line in CSV, else its number, both from 1."""
    cells: dict[str, list[Any]]
    """By column; text in CSV."""
    wrong: dict[int, str] = field(default_factory=dict)
    """Why a row, by its number in this part, has no cells that can be told apart."""

    def __len__(self) -> int:
        return len(self.lines)

    def row(self, number: int) -> dict[str, Any]:
        """The cells of a row of this part by column."""
        return {name: values[number] for name, values in self.cells.items()}


class LabelTable(Protocol):
    """A table that is open."""

    names: list[str]
    """Of its columns."""
    count: int | None
    """How many rows it says that it has; None where it does not say."""

    def parts(self, columns: Sequence[str], size: int) -> Iterator[Rows]:
        """Its rows, ``size`` at a time, with these columns.

        Raises:
            ValueError: It is damaged, from some row on.
        """

    def close(self) -> None:
        """Let go of the file, which stays open."""


def open_table(file: BinaryIO) -> LabelTable:
    """Open a table by what is in it: Parquet, CSV, or CSV in gzip.

    Args:
        file: At its start; it must allow seeking.

    Raises:
        ValueError: It is none of these, or empty.
    """
    start = file.read(6)
    file.seek(0)
    for magic, name in FOREIGN.items():
        if start.startswith(magic):
            raise ValueError(f"it is {name}; CSV and Parquet are read")
    if start.startswith(PARQUET):
        return ParquetTable(file)
    return CsvTable(gzip.open(file) if start.startswith(GZIP) else file)


class CsvTable:
    """CSV in UTF-8, or in UTF-16 with a byte order mark; the separator is found out.

    Args:
        file: The bytes; it must allow seeking.

    Raises:
        ValueError: It has no header.
    """

    def __init__(self, file: Any) -> None:
        start = _first(file)
        encoding = next((name for bom, name in BOMS if start.startswith(bom)), "utf-8")
        sample = start[: len(start) & ~1].decode(encoding, errors="replace")
        # A cell that is not of this encoding is wrong by itself, and no other.
        self._text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
        self._reader = csv.reader(self._text, delimiter=_separator(sample))
        try:
            header = next((cells for _, cells in self._read()), None)
            if header is None:
                raise ValueError("it is empty: its first line must hold the names of the columns")
        except ValueError:
            self.close()
            raise
        self.names = [name.strip() for name in header]
        self.count: int | None = None

    def parts(self, columns: Sequence[str], size: int) -> Iterator[Rows]:
        """As `LabelTable.parts`."""
        places = {name: self.names.index(name) for name in columns}
        rows = self._read()
        while part := list(islice(rows, size)):
            yield _rows_of(part, places, len(self.names))

    def close(self) -> None:
        """As `LabelTable.close`."""
        self._text.detach()

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        """Lines that are not empty, with their numbers."""
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader, None)
            except (csv.Error, OSError, EOFError, zlib.error, UnicodeError) as error:
                raise ValueError(f"line {line} cannot be read: {error}") from error
            if cells is None:
                return
            if cells:
                yield line, cells


class ParquetTable:
    """A Parquet file.

    Args:
        file: The bytes; it must allow seeking.

    Attributes:
        names: Of its columns.
        count: How many rows it says that it has.
        unpacked: Bytes that it says that it unpacks to.

    Raises:
        ValueError: It is damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        self._errors = (pa.ArrowException, OSError)
        try:
            names = pa.parquet.read_schema(file).names
            file.seek(0)
            self._file = pa.parquet.ParquetFile(file, read_dictionary=names)
        except self._errors as error:
            raise ValueError(f"it cannot be read as Parquet: {error}") from error
        self.names = list(self._file.schema_arrow.names)
        about = self._file.metadata
        self.count: int | None = int(about.num_rows)
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        self.unpacked = sum(group.total_byte_size for group in groups)

    def parts(self, columns: Sequence[str], size: int) -> Iterator[Rows]:
        """As `LabelTable.parts`."""
        from bento_selfheal.labelling.arrow_columns import listed

        first = 1
        try:
            for batch in self._file.iter_batches(size, columns=list(columns)):
                lines = list(range(first, first + len(batch)))
                yield Rows(lines, {name: listed(batch.column(name), name) for name in columns})
                first += len(batch)
        except (*self._errors, UnicodeDecodeError) as error:
            raise ValueError(f"it cannot be read from row {first} on: {error}") from error

    def close(self) -> None:
        """As `LabelTable.close`."""
        self._file.close()


def _first(file: Any) -> bytes:
    """The start of a file, which is then at its start again."""
    try:
        start: bytes = file.read(SAMPLED)
        file.seek(0)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    return start


def _separator(sample: str) -> str:
    """The character that stands most often in the first line that has any."""
    head = next((line for line in sample.splitlines() if line.strip()), "")
    return max(SEPARATORS, key=head.count)


def _rows_of(part: Sequence[tuple[int, list[str]]], places: Mapping[str, int], width: int) -> Rows:
    """Lines of CSV as rows; one of another width, or not of the encoding, is wrong."""
    rows = Rows([line for line, _ in part], {name: [] for name in places})
    for number, (_, cells) in enumerate(part):
        wrong = ""
        if len(cells) != width:
            wrong = f"{counted(len(cells), 'cell')} where the header has {width}"
        else:
            unreadable = (n for n, place in places.items() if not _is_text(cells[place]))
            if (name := next(unreadable, None)) is not None:
                wrong = f"{name}: {shown(cells[places[name]])} is not UTF-8"
        if wrong:
            rows.wrong[number] = wrong
        for name, place in places.items():
            rows.cells[name].append(None if wrong else cells[place])
    return rows


def _is_text(cell: str) -> bool:
    """Whether all bytes of a cell could be decoded."""
    return cell.isascii() or not any("\ud800" <= char <= "\udfff" for char in cell)
