"""Streams to try healing on: the article's data, and a user's own file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from bento_selfheal.core.records import Label
from bento_selfheal.core.text import shown
from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.labelled_table import Table, labelled_table
from bento_selfheal.inputs.table_file import read_file


@dataclass(frozen=True)
class Stream:
    """Rows in time order, their classes as indices, and how late their labels come."""

    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    delay: int
    """How many rows are predicted between a row and its label."""
    batch: int = 100
    new_classes: Mapping[int, Label] = field(default_factory=dict)
    """Classes that the model was not trained on, by the index that their labels have."""
    seconds: float = 1.0
    """Between two batches, by the times of the log."""

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        for i in range(len(self)):
            part = slice(i * self.batch, (i + 1) * self.batch)
            yield self.rows[part], self.labels[part]


@dataclass(frozen=True)
class LabelPattern:
    """Which labels of a stream come, and how late."""

    only: tuple[str, ...] = ()
    """Names of the classes that are reported; all where there are none."""
    never: str | None = None
    """Name of a class that nobody reports."""
    delays: Mapping[str, int] = field(default_factory=dict)
    """Rows between a row and its label, by the name of the class; of others, the stream's."""
    row_seconds: float | None = None
    """Seconds between two rows; None for a second between two requests."""

    def check(self, classes: Sequence[Label]) -> None:
        """See whether a model has the classes.

        Raises:
            SettingsError: It lacks one.
        """
        names = [str(label) for label in classes]
        for option, given in (("--only", self.only), ("--delay-of", self.delays)):
            for name in given:
                if name not in names:
                    raise SettingsError(
                        f"{option}: {shown(name)} is no class of the model, whose classes are "
                        f"{', '.join(names)}"
                    )

    def labelled(self, stream: Stream, classes: Sequence[Label]) -> NDArray[np.bool_]:
        """Which rows a label comes for, ``(n,)``; those of new classes come where all do."""
        comes = np.full(len(stream.labels), not self.only)
        for i, label in enumerate(classes):
            wanted = str(label) in self.only or not self.only
            comes[stream.labels == i] = wanted and str(label) != self.never
        return comes

    def delays_of(self, stream: Stream, classes: Sequence[Label]) -> NDArray[np.int64]:
        """How many rows are predicted between each row and its label, ``(n,)``."""
        late = np.full(len(stream.labels), stream.delay)
        for i, label in enumerate(classes):
            late[stream.labels == i] = self.delays.get(str(label), stream.delay)
        return late

    def timed(self, stream: Stream) -> Stream:
        """The stream with its rows so far apart."""
        if self.row_seconds is None:
            return stream
        return replace(stream, seconds=self.row_seconds * stream.batch)


ALL_LABELS = LabelPattern()


class LabelsOwed:
    """Says which labels of a stream come when.

    Args:
        stream: The rows, and how late their labels come.
        delays: How many rows are predicted between each row and its label, ``(n,)``, where that
            differs from row to row.
    """

    def __init__(self, stream: Stream, delays: NDArray[np.int64] | None = None) -> None:
        places = np.arange(len(stream) * stream.batch)
        late = stream.delay if delays is None else delays[: len(places)]
        due = places + late
        self._order = np.argsort(due, kind="stable")
        self._due = due[self._order]
        self._batch, self._next = stream.batch, 0
        self._come: Counter[int] = Counter()

    def due(self, answered: int) -> Iterator[int]:
        """The places of rows whose labels come now that so many rows are answered."""
        while self._next < len(self._due) and self._due[self._next] < answered:
            place = int(self._order[self._next])
            self._next += 1
            yield place

    def is_last_of(self, number: int) -> bool:
        """Whether the label that came last is the last of its batch, which counts from 1; to be
        asked once for each label."""
        self._come[number] += 1
        done = self._come[number] == self._batch
        if done:
            del self._come[number]
        return done


ARTICLE_FEATURES = ["F0", "F1", "F2", "F3", "F4", "F5", "F6", "V14", "F8", "F9"]
FRAUD_RATE = 0.15
SCHEMA = TypeAdapter(list[Column])


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
        columns = None if schema is None else _read_schema(schema)
        return labelled_table(found.table, label, drop=drop, columns=columns, notes=found.notes)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _read_schema(path: Path) -> tuple[Column, ...]:
    try:
        return tuple(SCHEMA.validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        raise SettingsError(f"schema: {path} cannot be read: {error}") from error
