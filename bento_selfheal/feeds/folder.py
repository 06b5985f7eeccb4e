"""A feed that watches a folder for CSV and Parquet files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bento_selfheal.config.feeds import Feed
from bento_selfheal.core.text import visible
from bento_selfheal.errors import FeedError, escaped
from bento_selfheal.feeds.source import PART_ROWS, Part, Places
from bento_selfheal.labelling.table import LabelTable, Rows, open_table

ENDINGS = (".csv", ".csv.gz", ".tsv", ".parquet", ".pq")
REJECTED = ".rejected.csv"
"""What `bento-selfheal label` writes beside a file."""


class FolderSource:
    """Reads each file once it is the same at two looks; one that changes later is read again.

    Args:
        feed: With the folder.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._folder = feed.folder or Path()
        self._before: dict[str, tuple[int, int]] = {}

    def parts(self, places: Places) -> Iterator[Part]:
        """As `Source.parts`: a file that cannot be read does not keep the others waiting."""
        files, failed = self._files()
        before, self._before = self._before, files
        for name, state in sorted(self._before.items()):
            place = places.get(name, {})
            same = place.get("state") == list(state)
            if before.get(name) != state or (same and place["done"]):
                continue
            try:
                yield from self._read(name, state, place["rows"] if same else 0)
            except (ValueError, OSError) as error:
                failed.append(f"{name}: {error}")
        if failed:
            more = f" (and {len(failed) - 1} more files)" if len(failed) > 1 else ""
            raise FeedError(f"feed {self._feed.name}: {failed[0]}{more}")

    def gone(self, places: Places) -> list[str]:
        """As `Source.gone`; an empty folder may be one that is not mounted."""
        return [name for name in places if name not in self._before] if self._before else []

    def _files(self) -> tuple[dict[str, tuple[int, int]], list[str]]:
        """Size and time of change of each file, and what cannot be read at all."""
        found, odd = {}, []
        try:
            paths = sorted(self._folder.iterdir())
        except OSError as error:
            raise FeedError(f"feed {self._feed.name}: {error}") from error
        for path in paths:
            name = path.name
            labels = name.lower().endswith(ENDINGS) and not name.endswith(REJECTED)
            if not labels or name.startswith("."):
                continue
            try:
                found[name] = _state(path)
            except (OSError, ValueError) as error:
                odd.append(f"{visible(name)}: {error}")
        return found, odd

    def _read(self, name: str, state: tuple[int, int], done: int) -> Iterator[Part]:
        """The parts of a file behind the rows that are done."""
        place = {"state": list(state), "rows": 0, "done": False}
        with (self._folder / name).open("rb") as file, closing(open_table(file)) as table:
            rows = 0
            for part in self._rows(table):
                rows += len(part)
                if rows > done:
                    yield Part(part, name, {**place, "rows": rows})
            yield Part(Rows([], {}), name, {**place, "rows": rows, "done": True})

    def _rows(self, table: LabelTable) -> Iterator[Rows]:
        columns = self._feed.columns
        for column in columns.values():
            if table.names.count(column) != 1:
                raise ValueError(f"column {column!r} is not there once; columns: {table.names}")
        for rows in table.parts(list(dict.fromkeys(columns.values())), PART_ROWS):
            cells: dict[str, list[Any]] = {f: rows.cells[c] for f, c in columns.items()}
            yield Rows(rows.lines, cells, rows.wrong)


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change.

    Raises:
        OSError: A link leads nowhere.
        ValueError: It is none that can be read: to open a pipe would never end.
    """
    if path.name != escaped(path.name):
        raise ValueError("its name is not UTF-8")
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("it is not a file")
    return about.st_size, about.st_mtime_ns
