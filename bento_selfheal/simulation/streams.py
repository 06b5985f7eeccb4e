"""Streams to try healing on: the article's data, and a user's own file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from bento_selfheal.errors import SettingsError


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


@dataclass(frozen=True)
class Table:
    """Rows in time order, with the label of each."""

    features: list[str]
    rows: NDArray[np.float32]
    labels: NDArray[np.generic]

    def split(self, share: float) -> tuple[Table, Table]:
        """The first share of the rows, and the rest."""
        at = int(len(self.rows) * share)
        return (
            Table(self.features, self.rows[:at], self.labels[:at]),
            Table(self.features, self.rows[at:], self.labels[at:]),
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


def read_table(path: Path, label: str, drop: Sequence[str] = ()) -> Table:
    """Read a CSV or Parquet file in time order; every column but the label is a feature.

    Raises:
        SettingsError: The file or a column cannot be used; the message names it.
    """
    if not path.is_file():
        raise SettingsError(f"file: {path} does not exist")
    try:
        table = pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path)
    except pa.ArrowInvalid as error:
        raise SettingsError(f"file: {path} cannot be read: {error}") from error
    if len(set(table.column_names)) < len(table.column_names):
        raise SettingsError(f"file: {path} repeats column names: {table.column_names}")
    for name in (label, *drop):
        if name not in table.column_names:
            raise SettingsError(f"column {name!r} is not in {path}; columns: {table.column_names}")
    features = [name for name in table.column_names if name != label and name not in drop]
    if not features:
        raise SettingsError(f"file: {path} has no column besides {label!r}")
    columns = [_numbers(table.column(name), name, path) for name in features]
    labels = table.column(label)
    if labels.null_count:
        raise SettingsError(f"column {label!r} of {path} has {labels.null_count} empty labels")
    return Table(features, np.stack(columns, axis=1), labels.to_numpy(zero_copy_only=False))


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> NDArray[np.float32]:
    try:
        values: NDArray[np.float32] = pc.cast(column, pa.float32(), safe=False).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SettingsError(
            f"column {name!r} of {path} has type {column.type}, not a number; drop or encode it"
        ) from error
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise SettingsError(f"column {name!r} of {path}: row {bad[0]} is {values[bad[0]]}")
    return values
