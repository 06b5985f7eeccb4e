"""A store and models as a power cut leaves them: the log of SQLite's last writes cut off or damaged
at any place. It opens at an earlier moment, whole, and serves and heals on from there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deployed import Deployed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_pipeline import drifting
from test_runner import BATCH, work_off

from bento_selfheal.config import Settings
from bento_selfheal.modelstore import use_home
from bento_selfheal.package import Package
from bento_selfheal.records import FeedbackRecord, Promotion
from bento_selfheal.store import SqlStore

pytestmark = pytest.mark.faults

EXAMPLES = settings.default.max_examples
FILES = ("selfheal.db", "selfheal.db-wal")


@dataclass
class Cut:
    """The files at some moments of a service's life, and what had happened in the end."""

    settings: Settings
    models: Path
    """The model store in the end."""
    moments: list[Path] = field(repr=False)
    labels: list[tuple[bytes, int]] = field(repr=False)
    """In the order of the log."""
    promotions: list[Promotion] = field(repr=False)


def copied(source: Path, target: Path) -> Path:
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(source / name, target / name)
    return target


def labels_of(store: SqlStore) -> list[tuple[bytes, int]]:
    log = store.read_log(0, 0, 100_000)
    return [(e.request, e.row) for e in log if isinstance(e, FeedbackRecord)]


@pytest.fixture(scope="module")
def cut(home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory) -> Cut:
    folder = tmp_path_factory.mktemp("cut")
    name = package.tag.split(":")[0]
    shutil.copytree(home / "models" / name, folder / "models" / name)
    use_home(folder)
    own = Settings(model=package.tag, state_dir=folder / "state", batch_size=BATCH,
                   lease_seconds=60, snapshots_kept=100)  # fmt: skip
    service = Deployed(own)
    runner, moments = service.runner(), []
    rows, labels = drifting()
    for at in range(0, len(rows), BATCH):
        batch = slice(at, at + BATCH)
        service.label(service.ask(rows[batch]), labels[batch])
        if at % (5 * BATCH) == 0:  # labelled and not yet learned
            moments.append(copied(own.state_dir, folder / f"moment{len(moments)}"))
        work_off(runner)
        if at % (5 * BATCH) == 0:
            moments.append(copied(own.state_dir, folder / f"moment{len(moments)}"))
    promotions = service.store.promotions()
    assert len(promotions) > 3
    found = Cut(own, folder / "models", moments, labels_of(service.store), promotions)
    service.close()
    use_home(home)
    return found


@settings(
    max_examples=max(EXAMPLES // 15, 5), deadline=None,
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
    shutil.copytree(cut.models, tmp_path / "own" / "models")
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
