"""A deployed service in one process: a worker and runners that are stepped by hand, and may die."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event
from steps import Item

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, PredictionRecord
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.runner.runner import Runner
from bento_selfheal.serving.worker import Worker
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry.spans import Telemetry


class Crash(BaseException):
    """What kill -9 is to a step; nothing of ours catches it."""


class Deployed:
    """A store that is deployed on, its worker, and who runs on it.

    Args:
        settings: The store and the packaged model.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        prepare(settings)
        self.store = open_store(settings)
        self.worker = Worker(settings, Telemetry())
        self._runners: list[Runner] = []

    def runner(self, **more: Any) -> Runner:
        """A fresh runner; it leads when it gets the lease."""
        self._runners.append(Runner(self.settings.model_copy(update=more), Telemetry()))
        return self._runners[-1]

    def new_worker(self) -> None:
        """As after kill -9 of the worker: what it had not logged is gone."""
        self._let_go(self.worker)
        self.worker = Worker(self.settings, Telemetry())

    def ask(self, rows: Any) -> list[str]:
        """Predict and log; the ids."""
        ids = self.worker.answer(rows).ids
        self.worker.log.flush()
        return ids

    def label(self, ids: list[str], labels: Any) -> Any:
        """Give labels; returns once they are acknowledged."""
        items = [Item(i, int(v)) for i, v in zip(ids, labels, strict=True)]
        return self.worker.feedback.accept(items, None)

    def close(self) -> None:
        """Let go of everything."""
        self._let_go(self.worker)
        for runner in self._runners:
            runner.store.close()
        self.store.close()

    @staticmethod
    def _let_go(worker: Worker) -> None:
        worker.feedback.stop()
        worker.store.close()


def whole_log(store: SqlStore) -> list[PredictionRecord | FeedbackRecord]:
    """Both logs in their common order."""
    found: list[PredictionRecord | FeedbackRecord] = []
    place = [0, 0]
    while entries := store.read_log(*place, limit=1000):
        found += entries
        for entry in entries:
            place[isinstance(entry, FeedbackRecord)] = entry.seq
    return found


def died(runner: Runner) -> None:
    """It is dead, and its lease has run out."""
    runner.store.release_lease(runner.owner)
    runner.store.close()


@dataclass
class Fate:
    """How far it came."""

    places: int = 0
    killed: bool = False


@contextmanager
def dying(store: SqlStore, at: int) -> Iterator[Fate]:
    """Kills whoever uses the store before its ``at``-th statement or commit, or behind one."""
    fate, db, real = Fate(), store._db, store._db.write

    def place(*_: Any) -> None:
        fate.places += 1
        if fate.places > at:
            raise Crash

    @contextmanager
    def write(*args: Any, **more: Any) -> Iterator[Connection]:
        with real(*args, **more) as c:
            yield c
        place()

    events = [(db.engine, name, place) for name in ("before_cursor_execute", "commit")]
    for one in events:
        event.listen(*one)
    db.write = write  # type: ignore[method-assign, assignment]
    try:
        yield fate
    except Crash:
        fate.killed = True
    finally:
        db.write = real  # type: ignore[method-assign]
        for one in events:
            event.remove(*one)
