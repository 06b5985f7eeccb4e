"""A file that people edit while the service runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from bento_selfheal.config.validation import cut
from bento_selfheal.errors import SettingsError

log = logging.getLogger(__name__)

LONGEST = 200
"""Characters that a log line says of what is wrong."""
Value = TypeVar("Value")


class WatchedFile(Generic[Value]):
    """Holds what a file says. A bad edit is refused with one log line, and the value stays.

    Args:
        path: The file.
        parse: Reads its content; raises `SettingsError` where that is wrong.
        current: The value in force until the file has been read.
        shown: The value as log lines may show it.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], Value],
        current: Value,
        shown: Callable[[Value], str] = str,
    ) -> None:
        self.path = path
        self.current = current
        self._parse = parse
        self._shown = shown
        # Of the edit looked at last, whether it was taken or refused; None where there is no file.
        self._seen: tuple[int, int, int] | None = (0, 0, 0)
        self._lost = ""

    def read(self) -> Value:
        """What the file says now; nothing comes into force.

        Raises:
            OSError: The file cannot be read.
            SettingsError: What it says is wrong.
        """
        return self._parse(self.path.read_bytes())

    def load(self) -> None:
        """Put what the file says in force.

        Raises:
            OSError: The file cannot be read.
            SettingsError: What it says is wrong.
        """
        seen = self._stamp()
        self.current = self.read()
        self._seen = seen

    def refresh(self) -> bool:
        """Look at the file again; True when another value is in force now."""
        before = self.current
        try:
            stamp = self._stamp()
            self._lost = ""
            if stamp == self._seen:
                return False
            self._seen = stamp
            self.current = self.read()
        except OSError as error:
            self._lose(error)
            return False
        except SettingsError as error:
            self._keep(f"refused {self.path}: {cut(str(error), LONGEST)}")
            return False
        if self.current == before:
            return False
        log.info("%s: now in force: %s", self.path, self._shown(self.current))
        return True

    def _stamp(self) -> tuple[int, int, int]:
        stat = self.path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _lose(self, error: OSError) -> None:
        """Say once why the file cannot be read, until it can be, or for another reason cannot."""
        if isinstance(error, FileNotFoundError):
            self._seen = None
        why = error.strerror or type(error).__name__
        if why != self._lost:
            self._keep(f"cannot read {self.path}: {why}")
        self._lost = why

    def _keep(self, why: str) -> None:
        log.error("%s; still in force: %s", why, self._shown(self.current))
