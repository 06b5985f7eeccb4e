"""Streams to try healing on: the article's data, and a user's own file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from bento_selfheal.core.text import counted
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.inference import counts_rows, infer
from bento_selfheal.inputs.labels import labels_of
from bento_selfheal.inputs.table_codes import codes_of, is_plain
from bento_selfheal.inputs.table_file import check_names, read_file


@dataclass(frozen=True)
class Stream:
    """Rows in time order, their classes as indices, and how late their labels come."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    delay: int
    """How many rows are predicted between a row and its label."""
    batch: int = 100

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        for i in range(len(self)):
            part = slice(i * self.batch, (i + 1) * self.batch)
            yield self.rows[part], self.labels[part]


ARTICLE_FEATURES = ["F0", "F1", "F2", "F3", "F4", "F5", "F6", "V14", "F8", "F9"]
FRAUD_RATE = 0.15
UNNAMED = "Unnamed:"
"""What pandas calls a column without a name."""
SCHEMA = TypeAdapter(list[Column])


@dataclass(frozen=True)
class Table:
    """Rows in time order, with the label of each."""

    features: list[str]
    rows: NDArray[np.float32]
    """``(n, features)``; codes where there are columns."""
    labels: NDArray[np.generic]
    columns: tuple[Column, ...] = ()
    """Types of the features; none where all are numbers without gaps."""
    notes: tuple[str, ...] = ()
    """How the file was read, in words."""

    def split(self, share: float) -> tuple[Table, Table]:
        """The first share of the rows, and the rest."""
        at = int(len(self.rows) * share)
        return (
            replace(self, rows=self.rows[:at], labels=self.labels[:at]),
            replace(self, rows=self.rows[at:], labels=self.labels[at:]),
        )


def article_rows(n: int, drift: float, generator: np.random.Generator) -> Table:
    """The article's data (article.md, section 5): V14 of normal rows moves down by ``drift``."""
    fraud = int(n * FRAUD_RATE)
    rows = generator.normal(size=(n, len(ARTICLE_FEATURES)))
    labels = np.zeros(n, dtype=np.int64)
    labels[:fraud] = 1
    v14 = ARTICLE_FEATURES.index("V14")
    rows[:fraud, v14] = generator.normal(-2.5, 0.8, fraud)
    rows[fraud:, v14] = generator.normal(-drift, 1.0, n - fraud)
    order = generator.permutation(n)
    return Table(ARTICLE_FEATURES, rows[order].astype(np.float32), labels[order])


def read_table(
    path: Path, label: str, drop: Sequence[str] = (), schema: Path | None = None
) -> Table:
    """Read a CSV or Parquet file in time order; every column but the label is a feature.

    Rows without a label are left out, and so is a nameless column that counts the rows.

    Args:
        path: The file.
        label: Column with the label.
        drop: Columns to leave out.
        schema: Types of the columns as `inspect --write` writes them; found out where not given.

    Raises:
        SettingsError: The file or a column cannot be used; the message names it.
    """
    found = read_file(path)
    try:
        return _table(found.table, list(found.notes), label, drop, schema)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _table(
    table: pa.Table, notes: list[str], label: str, drop: Sequence[str], schema: Path | None
) -> Table:
    check_names(table, [label, *drop])
    labels, has_one = labels_of(table, label)
    if gaps := int((~has_one).sum()):
        table = table.filter(pa.array(has_one))
        notes.append(f"{counted(gaps, 'row has', 'rows have')} no {label!r}: left out")
    if schema is not None:
        columns = _read_schema(schema)
    else:
        columns, left_out = _inferred(table, label, drop)
        notes += left_out
    rows = codes_of(table, columns)
    types = () if schema is None and is_plain(columns, rows) else columns
    return Table([c.name for c in columns], rows, labels, types, tuple(notes))


def _inferred(
    table: pa.Table, label: str, drop: Sequence[str]
) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a table, without a nameless index, and what is told of that."""
    columns, notes = infer(table, label, drop).columns, []
    for name in [c.name for c in columns if not c.name or c.name.startswith(UNNAMED)]:
        if len(columns) > 1 and counts_rows(table.column(name)):
            columns = tuple(c for c in columns if c.name != name)
            notes.append("a column without a name counts the rows: left out")
    return columns, notes


def _read_schema(path: Path) -> tuple[Column, ...]:
    try:
        return tuple(SCHEMA.validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise SettingsError(f"schema: {path} cannot be read: {error}") from error
