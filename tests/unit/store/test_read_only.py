"""A store that takes no writes for a while, in one process; tests/live/test_away.py has whole
services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployed import Deployed
from rigs import drifting
from sqlalchemy import Connection, event
from steps import BATCH, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.errors import StoreError
from bento_selfheal.packaging.package import Package
from bento_selfheal.store import SqlStore

pytestmark = pytest.mark.faults


@contextmanager
def read_only(*stores: SqlStore) -> Iterator[None]:
    """SQLite refuses every write of these stores, as on a file system that is read-only."""

    def refuse(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = on")

    def allow(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = off")

    for store in stores:
        event.listen(store._db.engine, "begin", refuse)
    try:
        yield
    finally:
        for store in stores:
            event.remove(store._db.engine, "begin", refuse)
            event.listen(store._db.engine, "begin", allow)


def test_read_only(package: Package, tmp_path: Path) -> None:
    """Predictions are answered, feedback is refused and nothing of it kept, a step of the runner
    leaves no trace; when writes are taken again all of it goes on, once."""
    service = Deployed(
        Settings(model=package.tag, state_dir=tmp_path, batch_size=BATCH, lease_seconds=60)
    )
    runner = service.runner()
    rows, labels = drifting(clean=2 * BATCH, drifted=4 * BATCH)
    service.label(service.ask(rows[:BATCH]), labels[:BATCH])
    work_off(runner)
    before = service.store.ends(), service.store.state()
    with read_only(service.worker.store, runner.store):
        asked = service.worker.answer(rows[BATCH:])
        with pytest.raises(StoreError, match="readonly"):
            service.worker.log.flush()
        with pytest.raises(StoreError, match="readonly"):
            service.label(asked.ids, labels[BATCH:])
        service.store.add_command("pause")
        with pytest.raises(StoreError, match="readonly"):
            runner.step()
        service.store.add_command("resume")
        assert service.worker.log.waiting == len(rows) - BATCH
    assert (service.store.ends()[:2], service.store.state()) == (before[0][:2], before[1])
    service.worker.log.flush()
    service.label(asked.ids, labels[BATCH:])
    work_off(runner)
    status = service.store.status()
    assert status["labels"]["joined"] == status["predicted_rows"] == len(rows)
    assert [e.kind for e in service.store.events() if e.kind in ("pause", "resume")] == [
        "pause", "resume",
    ]  # fmt: skip
    service.close()
