"""A deployment on a store with a long past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bentoml
import numpy as np
import pytest
from packages import other_package
from sqlalchemy import insert

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.candidates.candidate import Candidate, CandidateState
from bento_selfheal.core.decision import serving_point
from bento_selfheal.core.records import (
    Event,
    OperatingPoint,
    PointKind,
    PredictionRecord,
    PromotionKind,
)
from bento_selfheal.core.review.asked_row import AskedRow
from bento_selfheal.deployment.deploy import prepare, put_in_service
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.packaging.package import Package
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.store import tables as t
from bento_selfheal.store.labels.asked import LEASE_SECONDS


def drop_many(store: SqlStore, count: int) -> None:
    """As years leave it: so many snapshots that are no longer kept."""
    row = {"tag": "old:1", "phase": "post-heal", "sha256": "ab", "heal": 1, "batch": 1,
           "reason": "", "time": 1.0, "rows": 0, "kept": False}  # fmt: skip
    with store._db.write() as c:
        c.execute(insert(t.snapshots), [{**row, "version": 2 + n} for n in range(count)])


def test_only_what_is_kept_is_removed(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new package removes the adapters that are kept, however many others there ever were; its
    version is above all of them."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    prepare(settings)
    store = open_store(settings)
    drop_many(store, 3000)
    [clean] = store.snapshots()
    removed: list[str] = []
    monkeypatch.setattr(Registry, "delete", lambda _, tag: removed.append(tag))
    prepare(settings.model_copy(update={"model": other_package("after-years").tag}))
    assert removed == [clean.tag]
    assert [s.version for s in store.snapshots()] == [3002]
    store.close()


@pytest.fixture
def served(package: Package, tmp_path: Path) -> Iterator[tuple[Settings, SqlStore]]:
    """A service that was started on the package."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    prepare(settings)
    store = open_store(settings)
    yield settings, store
    store.close()


def test_a_start_keeps_what_was_deployed_since(
    served: tuple[Settings, SqlStore], package: Package
) -> None:
    """A restart with the same settings does not take back what was deployed meanwhile, by hand or
    as a candidate that has won; settings that name another package are followed."""
    settings, store = served
    won = other_package("has-won").tag
    put_in_service(settings, store, won)
    for _ in range(2):
        prepare(settings)
        assert store.meta("package") == won
    prepare(settings.model_copy(update={"model": won}))
    prepare(settings)
    assert store.meta("package") == package.tag


def test_a_start_takes_over_where_what_served_is_gone(served: tuple[Settings, SqlStore]) -> None:
    """Where the package that served is in the model store no more, that of the settings serves."""
    settings, store = served
    won = other_package("gone-since").tag
    put_in_service(settings, store, won)
    bentoml.models.delete(won)
    prepare(settings)
    assert store.meta("package") == settings.model


def test_a_start_promotes_no_candidate(served: tuple[Settings, SqlStore]) -> None:
    """A package that is a candidate, or was withdrawn, does not take over by a restart because it
    is the newest of its name; it does where it is named, or has won."""
    settings, store = served
    first, second = other_package("to-prove").tag, ""
    newest = settings.model_copy(update={"model": "to-prove:latest"})
    prepare(newest)
    assert store.meta("package") == first
    second = other_package("to-prove").tag
    assert second != first
    begun = store.add_candidate(Candidate(second))
    prepare(newest)
    assert store.meta("package") == first
    assert store.move_candidate(begun, CandidateState.WITHDRAWN, 0, "loss higher")
    prepare(newest)
    assert store.meta("package") == first
    prepare(settings.model_copy(update={"model": second}))
    assert store.meta("package") == second


def test_asks_for_no_rows_of_the_package_before(package: Package, tmp_path: Path) -> None:
    """Rows that the package before asked about, whose features another one may not have, are shown
    to nobody; those that somebody was shown today still count in the budget."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    prepare(settings)
    store, now = open_store(settings), 1e9
    features, said = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    asked = PredictionRecord(b"r" * 12, features, said, 1, now)
    store.append_predictions([asked])
    token = store.acquire_lease("runner", 60.0)
    assert token is not None
    rows = [AskedRow(asked.request, row, 0.5, row / 2, "drawn by chance", now) for row in (0, 1)]
    store.commit(token, StepRecord(b"", {}, asked=rows, after_promotion=store.promotions()[-1].seq))
    assert [one.asked for one in store.hand_out(1, now, 5).rows] == rows[:1]
    prepare(settings.model_copy(update={"model": other_package("asks-for-none").tag}))
    later = store.hand_out(9, now + 2 * LEASE_SECONDS, 5)
    assert (later.rows, later.left) == ([], 4)
    store.close()


def test_begins_at_its_own_operating_point(package: Package, tmp_path: Path) -> None:
    """The threshold of the package before does not outlive it."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    prepare(settings)
    store = open_store(settings)
    [initial] = store.promotions()
    point = OperatingPoint(0.9, PointKind.COSTS)
    back = replace(initial, kind=PromotionKind.ROLLBACK, operating_point=point)
    store.promote(back, Event("rollback", {}, 1.0))
    prepare(settings.model_copy(update={"model": other_package("at-its-own").tag}))
    newest, moved, _ = store.serving_state()
    assert newest is not None
    assert newest.operating_point == OperatingPoint()
    assert serving_point(newest, moved) == OperatingPoint()
    store.close()
