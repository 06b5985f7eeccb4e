"""Starts the processes of candidates, one on each machine, and ends those that hang."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from bento_selfheal.core.candidates.candidate import Candidate, reporter
from bento_selfheal.serving.candidates.host import Host, Process
from bento_selfheal.store import SqlStore

LONGEST_PAUSE = 30.0
HOST_SECONDS = 600.0
"""How long the host waits for another candidate: where one was withdrawn the next is often near."""


def folder_of(store_id: str) -> Path:
    """The folder of the sockets of a store's candidates on this machine; nobody else may enter."""
    path = Path(tempfile.gettempdir()) / f"selfheal-{os.getuid()}-{store_id[:12]}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user")
    return path


class Keeper:
    """Keeps a process for each candidate, unless another worker of this machine does.

    Args:
        store: Where the ends of processes are counted.
        folder: Where the sockets lie.
    """

    def __init__(self, store: SqlStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._lock: IO[str] | None = None
        self._host: Host | None = None
        self._wanted_at = 0.0
        self._processes: dict[int, Process] = {}
        self._troubles: dict[int, Counter[str]] = {}
        self._again: dict[int, float] = {}

    def keep(self, candidates: Sequence[Candidate]) -> None:
        """Start, restart and end processes, so that these candidates have one each."""
        if not self._leads(bool(candidates)):
            return
        wanted = {c.id: c for c in candidates}
        for one in [i for i in self._processes if i not in wanted]:
            self._processes.pop(one).end()
        if candidates:
            self._wanted_at = time.monotonic()
        elif time.monotonic() > self._wanted_at + HOST_SECONDS:
            self._end_host()
        for candidate in candidates:
            self._keep_one(candidate)

    def stop(self) -> None:
        """End all processes, and let another worker keep them."""
        for process in self._processes.values():
            process.end()
        self._processes.clear()
        self._end_host()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _keep_one(self, candidate: Candidate) -> None:
        process = self._processes.get(candidate.id)
        if process is not None:
            trouble = process.trouble()
            if not trouble:
                return
            self._processes.pop(candidate.id).end()
            self._restart_later(candidate.id, trouble)
        if time.monotonic() >= self._again.get(candidate.id, 0.0):
            path = self._folder / f"{candidate.id}.sock"
            self._processes[candidate.id] = self._living_host().start(candidate, path)

    def _living_host(self) -> Host:
        if self._host is not None and not self._host.alive:
            self._end_host()
        self._host = self._host or Host()
        return self._host

    def _end_host(self) -> None:
        if self._host is not None:
            self._host.stop()
            self._host = None

    def _restart_later(self, candidate: int, trouble: str) -> None:
        troubles = self._troubles.setdefault(candidate, Counter())
        troubles[trouble] += 1
        pause = min(2.0 ** (troubles.total() - 1), LONGEST_PAUSE)
        self._again[candidate] = time.monotonic() + pause
        self._store.report_candidate(candidate, reporter("keeper"), dict(troubles))

    def _leads(self, wanted: bool) -> bool:
        """Whether this worker keeps the processes of this machine; its end frees the lock."""
        if self._lock is not None or not wanted:
            return self._lock is not None
        lock = (self._folder / "keeper.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True
