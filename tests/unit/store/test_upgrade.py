"""Stores of earlier releases, as those releases wrote them: migrated when the service starts, or
refused with what to do. With a checkpoint that cannot be read the runner begins anew."""

from __future__ import annotations

import json
import re
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from deployed import Deployed
from postgres import Postgres
from safetensors.torch import save
from sqlalchemy import create_engine, text
from steps import work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.decision import serving_point
from bento_selfheal.core.records import Event, FeedbackOutcome, PromotionKind
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.errors import NewerRelease, StoreError
from bento_selfheal.healing import checkpoint
from bento_selfheal.packaging.model_store import use_home
from bento_selfheal.reports.report_data import read_store
from bento_selfheal.store import SqlStore
from bento_selfheal.store.schema import revisions

pytestmark = pytest.mark.faults

FIXTURES = Path(__file__).parents[2] / "fixtures"
STORES = sorted(FIXTURES.glob("store-*.tar.xz"))
OLDEST_AND_NEWEST = [
    pytest.param(path, id=path.name.split(".")[0],
                 marks=[] if path in (STORES[0], STORES[-1]) else [pytest.mark.slow])
    for path in STORES
]  # fmt: skip
BATCH = 20


class Old:
    """What an earlier release left: its home, and what its store said of itself."""

    def __init__(self, archive: Path, home: Path) -> None:
        with tarfile.open(archive) as tar:
            tar.extractall(home, filter="data")
        self.facts: dict[str, Any] = json.loads((home / "facts.json").read_text())
        self.file = home / "state" / "selfheal.db"
        self.settings = Settings(
            model=self.facts["package"], state_dir=home / "state", **self.facts["settings"]
        )

    @property
    def is_of_this_release(self) -> bool:
        """Whether its tables need no migration."""
        store = open_store(self.settings)
        try:
            store.check()
        except StoreError:
            return False
        finally:
            store.close()
        return True

    def rewrite(self, change: Callable[[bytes], bytes]) -> None:
        """Change the runner's checkpoint."""
        with closing(sqlite3.connect(self.file)) as c, c:
            (blob,) = c.execute("select state from runner").fetchone()
            c.execute("update runner set state = ?", (change(blob),))


@pytest.fixture(params=STORES, ids=lambda path: path.name.split(".")[0])
def old(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[Old]:
    use_home(tmp_path)
    yield Old(request.param, tmp_path)
    use_home(home)


def drifted(seed: int) -> tuple[Any, Any]:
    rows = np.random.default_rng(seed).normal(size=(BATCH, 3)).astype(np.float32)
    labels = (rows[:, 0] + rows[:, 1] > 0).astype(int)
    rows[:, 0] += 2.0
    return rows, labels


def heal_on(service: Deployed, seed: int) -> dict[str, Any]:
    """A batch more, labelled and worked off; the status then."""
    rows, labels = drifted(seed)
    service.label(service.ask(rows), labels)
    work_off(service.runner())
    return service.store.status()


def as_it_was(old: Old, service: Deployed) -> None:
    """What served serves, the snapshots are known, and ids of before the upgrade are good."""
    promotions = old.facts["promotions"]
    assert [p.version for p in service.store.promotions()] == [p["version"] for p in promotions]
    assert service.worker.follower.champion.version == promotions[-1]["version"]
    kept = [s["tag"] for s in old.facts["snapshots"]]
    assert [s.tag for s in service.store.snapshots()] == kept
    owed = old.facts["owed"]
    told = service.label(list(owed), list(owed.values()))
    assert told.counts[FeedbackOutcome.ACCEPTED] == len(owed)


def test_goes_on(old: Old) -> None:
    """The runner goes on from the checkpoint of the earlier release: still paused, every label
    learned once, the next heal the next number."""
    before = old.facts["status"]
    service = Deployed(old.settings)
    as_it_was(old, service)
    assert service.store.status()["heals"] == before["heals"]
    work_off(runner := service.runner())
    assert service.store.status()["paused"]
    assert service.store.status()["labels"]["joined"] == before["labels"]["joined"] + BATCH
    service.store.add_command("resume")
    service.store.release_lease(runner.owner)
    status = heal_on(service, 5)
    assert status["heals"] > before["heals"]
    assert status["labels"]["joined"] == before["labels"]["joined"] + 2 * BATCH
    heals = [e.detail["heal"] for e in service.store.events() if e.kind == "heal"]
    assert heals == list(range(1, len(heals) + 1))
    assert "begun_anew" not in [e.kind for e in service.store.events()]
    service.close()


def _of_format(number: int) -> Callable[[bytes], bytes]:
    """The checkpoint as a release with another format would have written it."""

    def change(blob: bytes) -> bytes:
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
        facts = {**json.loads(header["__metadata__"]["selfheal"]), "format": number}
        body = save({}, metadata={"selfheal": json.dumps(facts)})
        return body + checkpoint._sum(body)

    return change


def _without(fact: str) -> Callable[[bytes], bytes]:
    """The checkpoint without a fact; where it ends with a checksum, with the right one."""

    def change(blob: bytes) -> bytes:
        less = blob.replace(f'\\"{fact}\\"'.encode(), f'\\"{fact[::-1]}\\"'.encode())
        body, end = blob[: -checkpoint.SUM_BYTES], blob[-checkpoint.SUM_BYTES :]
        if checkpoint._sum(body) != end:
            return less
        return less[: -checkpoint.SUM_BYTES] + checkpoint._sum(less[: -checkpoint.SUM_BYTES])

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_of_format(3), "format 3"),
        (_without("gate"), "cannot be read"),
        (lambda blob: blob[:-40], "cannot be read|checksum"),
        (lambda blob: b"\0" * len(blob), "damaged"),
        (lambda _: b"", "damaged"),
    ],
    ids=["older format", "a fact missing", "cut off", "zeros", "empty"],
)
@pytest.mark.parametrize("old", OLDEST_AND_NEWEST, indirect=True)
def test_begins_anew(old: Old, change: Callable[[bytes], bytes], said: str) -> None:
    """Where the checkpoint is of no use an event says so, what serves goes on serving, operators'
    words hold, heals go on under the next number, and old snapshots are retired as ever."""
    old.rewrite(change)
    service, before = Deployed(old.settings), old.facts["status"]
    as_it_was(old, service)
    work_off(runner := service.runner())
    [event] = [e for e in service.store.events() if e.kind == "begun_anew"]
    assert re.search(said, event.detail["reason"])
    status = service.store.status()
    assert status["paused"]
    assert status["serving"]["version"] == old.facts["promotions"][-1]["version"]
    service.store.add_command("resume")
    service.store.release_lease(runner.owner)
    for seed in range(6):
        status = heal_on(service, seed)
        service.store.release_lease(service.store.leader() or "")
    heals = [e.detail["heal"] for e in service.store.events() if e.kind == "heal"]
    assert heals == sorted(set(heals))
    assert max(heals) > before["heals"]
    assert len(service.store.snapshots()) <= old.settings.snapshots_kept
    assert [e.kind for e in service.store.events()].count("begun_anew") == 1
    service.close()


def test_newer_checkpoint(old: Old) -> None:
    """A checkpoint of a newer release is left alone: this runner says so and lets others lead."""
    old.rewrite(_of_format(99))
    settings = old.settings.model_copy(update={"lease_seconds": 0.05})
    service = Deployed(settings)
    before = service.store.state()
    with pytest.raises(NewerRelease, match="format 99"):
        service.runner().step()
    assert service.store.state() == before
    assert service.store.leader() is None
    service.close()


def test_flipped_bit(old: Old) -> None:
    """One bit that flipped in a checkpoint of this release is noticed."""
    service = Deployed(old.settings)
    work_off(runner := service.runner())
    blob = bytearray(service.store.state() or b"")
    blob[-100] ^= 4  # among the tensors: a bit of the header may break that first
    service.store.release_lease(runner.owner)
    old.rewrite(lambda _: bytes(blob))
    service.runner().step()
    [event] = [e for e in service.store.events() if e.kind == "begun_anew"]
    assert "checksum" in event.detail["reason"]
    service.close()


def test_keeps_its_operating_point(old: Old) -> None:
    """The operating point that was in force stays with what served, also when an operator comes
    back to it later."""
    point = {"threshold": 0.125, "kind": "costs", "verified": True}
    with closing(sqlite3.connect(old.file)) as c, c:
        c.execute("update meta set value = ? where key = 'operating_point'", (json.dumps(point),))
    service = Deployed(old.settings)
    newest, moved, _ = service.store.serving_state()
    assert newest is not None
    assert serving_point(newest, moved).as_dict() == point
    clean = service.store.promotions()[0]
    for target in (clean, newest):
        back = replace(target, kind=PromotionKind.ROLLBACK)
        written = service.store.promote(back, Event("rollback", {}, 1.0))
        assert written.version == target.version
    now, moved, _ = service.store.serving_state()
    assert now is not None
    assert serving_point(now, moved).as_dict() == point
    service.close()


def test_who_only_reads(old: Old) -> None:
    """Commands that only read a store whose tables are older name what migrates it, and change
    nothing; where the tables are today's, they read it as it is."""
    if old.is_of_this_release:
        assert read_store(old.settings) is not None
        return
    with closing(sqlite3.connect(old.file)) as c:
        before = c.execute("select name, sql from sqlite_master").fetchall()
        with pytest.raises(StoreError, match="bento-selfheal deploy"):
            read_store(old.settings)
        assert c.execute("select name, sql from sqlite_master").fetchall() == before
    Deployed(old.settings).close()
    assert read_store(old.settings) is not None


def test_postgres(postgres: Postgres) -> None:
    """A PostgreSQL store of the first release that knew it is migrated with all that it holds."""
    url = postgres.database()
    engine = create_engine(url)
    with engine.begin() as c:
        config, _ = revisions(c)
        command.upgrade(config, "0002")
        c.execute(text("insert into meta values ('secret', 'ab'), ('store_id', 'f00')"))
        c.execute(text("insert into feedback (request, row, revision, label, time, after) "
                       "values ('\\x00', 0, 0, 1, 1.5, 0)"))  # fmt: skip
    engine.dispose()
    store = SqlStore(url)
    with pytest.raises(StoreError, match="schema 0002"):
        store.check()
    store.create()
    store.check()
    assert (store.meta("secret"), store.ends()) == ("ab", (0, 1, 0))
    assert store.measurements() == []
    store.close()
