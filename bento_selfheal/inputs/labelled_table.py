"""A table whose rows have labels, as a model is trained on it: codes of columns found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bento_selfheal.core.text import counted
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.inference import counts_rows, infer
from bento_selfheal.inputs.labels import labels_of
from bento_selfheal.inputs.plain_table import check_names
from bento_selfheal.inputs.table_codes import codes_of, is_plain, known_levels

UNNAMED = "Unnamed:"
"""What pandas calls a column without a name."""


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
        """The first share of the rows, with the levels that it knows, and the rest."""
        at = int(len(self.rows) * share)
        known = known_levels(self.columns, self.rows[:at]) if self.columns else ()
        return (
            replace(self, rows=self.rows[:at], labels=self.labels[:at], columns=known),
            replace(self, rows=self.rows[at:], labels=self.labels[at:]),
        )


def labelled_table(
    table: pa.Table,
    label: str,
    *,
    drop: Sequence[str] = (),
    columns: Sequence[Column] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """The rows of a table that have a label; every other column is a feature.

    Args:
        table: The table, as `plain_table` gives it.
        label: Its column with the labels.
        drop: Columns to leave out.
        columns: The columns to use, with their types; found out where not given.
        notes: How it was read so far.

    Raises:
        SettingsError: A column cannot be used; the message names it.
    """
    check_names(table, [label, *drop])
    told = list(notes)
    labels, has_one = labels_of(table, label)
    if gaps := int((~has_one).sum()):
        table = table.filter(pa.array(has_one))
        told.append(f"{counted(gaps, 'row has', 'rows have')} no {label!r}: left out")
    coded = coded_table(table, columns, label=label, drop=drop)
    return replace(coded, labels=labels, notes=(*told, *coded.notes))


def coded_table(
    table: pa.Table,
    columns: Sequence[Column] | None,
    *,
    label: str | None = None,
    drop: Sequence[str] = (),
) -> Table:
    """As `labelled_table`, of rows that have no labels yet."""
    if columns is None:
        found, notes = _inferred(table, label, drop)
    else:
        found, notes = tuple(columns), []
    rows = codes_of(table, found)
    types = () if columns is None and is_plain(found, rows) else found
    return Table([c.name for c in found], rows, np.empty(0, np.int64), types, tuple(notes))


def _inferred(
    table: pa.Table, label: str | None, drop: Sequence[str]
) -> tuple[tuple[Column, ...], list[str]]:
    """The columns of a table, without a nameless index, and what is told of that."""
    columns, notes = infer(table, label, drop).columns, []
    for name in [c.name for c in columns if not c.name or c.name.startswith(UNNAMED)]:
        if len(columns) > 1 and counts_rows(table.column(name)):
            columns = tuple(c for c in columns if c.name != name)
            notes.append("a column without a name counts the rows: left out")
    return columns, notes
