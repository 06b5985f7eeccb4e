"""Sends a table of labels part by part, and counts what became of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bento_selfheal.cli.labels.rejects import RejectsFile
from bento_selfheal.errors import InvalidInput, SettingsError
from bento_selfheal.labelling.table import LabelTable, Rows

if TYPE_CHECKING:
    from bento_selfheal.client.client import Client

PART_ROWS = 10_000
TOLD = 10
"""Rows that were not kept that are printed; the file has all."""
COUNTED = ("accepted", "already_known", "unknown", "unmatched", "waiting", "in_conflict")


@dataclass
class Sent:
    """What became of the rows."""

    rows: int = 0
    accepted: int = 0
    already_known: int = 0
    unknown: int = 0
    unmatched: int = 0
    waiting: int = 0
    in_conflict: int = 0
    rejected: int = 0
    line: int = 0
    """The last one that was sent."""
    first: list[dict[str, Any]] = field(default_factory=list)
    """The first rows that were not kept, with their lines and reasons."""
    rejected_file: str = ""
    """All of them."""
    error: str = ""
    """Why the file was not sent to its end."""


class Sender:
    """Sends labels by key.

    Args:
        client: The service.
        columns: Column of the file for each field of a label.
        constant: Fields that are the same for all rows.
        rejects: Gets the rows that are not kept.

    Attributes:
        sent: What became of the rows so far.
    """

    def __init__(
        self,
        client: Client,
        columns: Mapping[str, str],
        constant: Mapping[str, Any],
        rejects: RejectsFile,
    ) -> None:
        self.sent = Sent()
        self._client = client
        self._columns = columns
        self._constant = constant
        self._rejects = rejects
        self._size = PART_ROWS

    def check(self, table: LabelTable) -> None:
        """See whether a table has the columns.

        Raises:
            SettingsError: It lacks one, or has it twice.
        """
        for field_, name in self._columns.items():
            if table.names.count(name) != 1:
                what = "more than once" if name in table.names else "not"
                raise SettingsError(
                    f"{field_}: column {name!r} is {what} there; columns: {table.names}"
                )

    def send(self, table: LabelTable) -> Iterator[Sent]:
        """Send a table, and give what became of it so far after each part.

        Raises:
            ValueError: The table is damaged from some row on.
            SelfHealError: The service is out of reach, or refuses what is sent.
        """
        for rows in table.parts(list(dict.fromkeys(self._columns.values())), PART_ROWS):
            self._send(rows, 0)
            yield self.sent

    def close(self) -> None:
        """Finish the file of rows that were not kept."""
        self._rejects.close()
        self.sent.rejected_file = str(self._rejects.path) if self._rejects.written else ""

    def _send(self, rows: Rows, start: int) -> None:
        """Send rows from ``start`` on, in as many requests as the service's limit needs."""
        while start < len(rows):
            end = min(start + self._size, len(rows))
            try:
                self._send_one(rows, start, end)
            except InvalidInput as error:
                if error.kind != "too_many" or self._size == 1:
                    raise
                self._size = max(self._size // 2, 1)
                continue
            start = end
            self.sent.line = rows.lines[end - 1]

    def _send_one(self, rows: Rows, start: int, end: int) -> None:
        good = [i for i in range(start, end) if i not in rows.wrong]
        answer = self._client.label(self._table(rows, good), keep_good=True) if good else None
        self.sent.rows += end - start
        not_kept = {i: why for i, why in rows.wrong.items() if start <= i < end}
        if answer is not None:
            for name in COUNTED:
                setattr(self.sent, name, getattr(self.sent, name) + getattr(answer, name))
            not_kept |= {good[row.item]: row.reason for row in answer.rejected}
        self.sent.rejected += len(not_kept)
        for one in answer.conflicts if answer is not None else ():
            not_kept[good[one["item"]]] = f"in conflict: the label {one['kept']!r} is kept"
        for i in sorted(not_kept):
            self._tell(rows, i, not_kept[i])

    def _table(self, rows: Rows, numbers: list[int]) -> Any:
        import pyarrow as pa

        cells = {
            name: [rows.cells[column][i] for i in numbers] for name, column in self._columns.items()
        }
        same = {name: [value] * len(numbers) for name, value in self._constant.items()}
        return pa.table({**cells, **same})

    def _tell(self, rows: Rows, number: int, reason: str) -> None:
        cells = rows.row(number)
        line, key = rows.lines[number], cells[self._columns["key"]]
        self._rejects.write(line, reason, key, cells[self._columns["label"]])
        if len(self.sent.first) < TOLD:
            self.sent.first.append({"line": line, "reason": reason})
