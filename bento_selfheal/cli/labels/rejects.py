"""The file of rows that were not kept."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO

from bento_selfheal.core.text import visible


class RejectsFile:
    """Written from the first such row on; one of an earlier run is replaced or removed.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    @property
    def written(self) -> bool:
        """Whether there was such a row."""
        return self._file is not None

    def write(self, line: int, reason: str, key: Any, label: Any) -> None:
        """Write a row with its line and the reason."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", newline="")
            csv.writer(self._file).writerow(["line", "reason", "key", "label"])
        cells = ("" if cell is None else visible(str(cell)) for cell in (key, label))
        csv.writer(self._file).writerow([line, visible(reason), *cells])

    def close(self) -> None:
        """Finish the file; without rows none is left."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
        else:
            self._file.close()
