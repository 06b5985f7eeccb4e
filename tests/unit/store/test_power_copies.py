"""A store and models as a power cut leaves them: the log of SQLite's last writes cut off or damaged
at any place. It opens at an earlier moment, whole, and serves and heals on from there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from deployed import Deployed, whole_log
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rigs import drifting
from sqlalchemy import Connection, event
from steps import BATCH, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.records import FeedbackRecord, Promotion
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.packaging.package import Package
from bento_selfheal.store import SqlStore

pytestmark = pytest.mark.faults

EXAMPLES = settings.default.max_examples
FILES = ("selfheal.db", "selfheal.db-wal")


class Cut:
    """The files at some moments of a service's life, and what had happened in the end.

    Args:
        settings: Of the service.
        folder: Where its files are.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.moments: list[Path] = []
        self.labels: list[tuple[bytes, int]] = []
        self.promotions: list[Promotion] = []

    def keep(self) -> None:
        """Copy the store's files as they are now."""
        target = self.folder / f"moment{len(self.moments)}"
        self.moments.append(copied(self.settings.state_dir, target))


def copied(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, target / name)
    return target


def labels_of(store: SqlStore) -> list[tuple[bytes, int]]:
    return [(e.request, e.row) for e in whole_log(store) if isinstance(e, FeedbackRecord)]


@pytest.fixture(scope="module")
def cut(home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory) -> Cut:
    folder = tmp_path_factory.mktemp("cut")
    name = package.tag.split(":")[0]
    shutil.copytree(home / "models" / name, folder / "models" / name)
    use_home(folder)
    own = Settings(model=package.tag, state_dir=folder / "state", batch_size=BATCH,
                   lease_seconds=60, snapshots_kept=100)  # fmt: skip
    found, service = Cut(own, folder), Deployed(own)
    runner = service.runner()
    for store in (service.store, service.worker.store, runner.store):
        # All that was ever written is in the log, so that any place of it is a moment of the past.
        event.listen(store._db.engine, "begin", _checkpoint_never)
    rows, labels = drifting()
    for at in range(0, len(rows), BATCH):
        batch = slice(at, at + BATCH)
        service.label(service.ask(rows[batch]), labels[batch])
        if at % (5 * BATCH) == 0:
            found.keep()  # labelled and not yet learned
        work_off(runner)
        if at % (5 * BATCH) == 0:
            found.keep()
    found.labels, found.promotions = labels_of(service.store), service.store.promotions()
    service.close()
    use_home(home)
    assert len(found.promotions) > 3
    return found


def _checkpoint_never(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 0")


@settings(
    max_examples=EXAMPLES // 5 if EXAMPLES > 100 else 4, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every call is a new copy
)  # fmt: skip
@given(
    moment=st.integers(0, 10_000), at=st.floats(0, 1), flips=st.booleans(), bit=st.integers(0, 7)
)
def test_opens(
    cut: Cut, home: Path, tmp_path: Path, moment: int, at: float, flips: bool, bit: int
) -> None:
    """What is there is a beginning of what happened; the newest promotion in it is served, labels
    that came again count once, and the runner goes on."""
    shutil.rmtree(tmp_path / "own", ignore_errors=True)
    folder = copied(cut.moments[moment % len(cut.moments)], tmp_path / "own" / "state")
    shutil.copytree(cut.folder / "models", tmp_path / "own" / "models")
    use_home(tmp_path / "own")
    wal = folder / "selfheal.db-wal"
    blob = bytearray(wal.read_bytes())
    place = min(int(at * len(blob)), len(blob) - 1)
    if flips:
        blob[place] ^= 1 << bit
        wal.write_bytes(blob)
    else:
        wal.write_bytes(blob[:place])
    service = Deployed(cut.settings.model_copy(update={"state_dir": folder}))
    try:
        store = service.store
        found, promotions = labels_of(store), store.promotions()
        assert found == cut.labels[: len(found)]
        told = [(p.version, p.kind, p.reason) for p in promotions]
        assert told == [(p.version, p.kind, p.reason) for p in cut.promotions[: len(promotions)]]
        assert service.worker.follower.champion.version == promotions[-1].version
        assert [e for e in store.events() if e.kind == "refused"] == []
        rows, labels = drifting(seed=3, clean=0, drifted=2 * BATCH)
        service.label(service.ask(rows), labels)
        runner = service.runner()
        store.release_lease(store.leader() or "")
        work_off(runner)
        status = store.status()
        assert status["labels"]["joined"] == len(found) + len(rows)
        heals = [e.detail["heal"] for e in store.events() if e.kind == "heal"]
        assert heals == list(range(1, len(heals) + 1))
        assert status["heals"] == len(heals)
    finally:
        service.close()
        use_home(home)
