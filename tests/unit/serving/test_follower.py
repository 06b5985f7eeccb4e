"""A worker follows the promotion log: what it serves was verified, or it is the one before."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import wait_for
from snapshots import adapter, file_of, flip

from bento_selfheal.core.log.serving_state import ServingState
from bento_selfheal.core.records import (
    Event,
    NewSnapshot,
    OperatingPoint,
    Phase,
    PointKind,
    Promotion,
    PromotionKind,
    Snapshot,
)
from bento_selfheal.errors import SnapshotError, StoreError
from bento_selfheal.packaging.adapters import Registry
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.follower import Follower
from bento_selfheal.store import SqlStore, StepRecord
from bento_selfheal.telemetry.spans import Telemetry


class World:
    """A store with snapshots to promote."""

    def __init__(self, package: Package, path: Path) -> None:
        self.store = SqlStore(f"sqlite:///{path}")
        self.store.create()
        self.store.begin_status({})
        self.registry = Registry(package, self.store.meta("store_id") or "")
        self.package = package

    def snapshot(self, version: int) -> Snapshot:
        state = adapter(self.package)
        state["adapter.2.bias"] += version / 100
        made = self.registry.save(
            NewSnapshot(version, Phase.POST, heal=version, batch=version, reason="r"), state
        )
        token = self.store.acquire_lease("test", 60)
        assert token is not None
        newest = self.store.newest_promotion()
        self.store.commit(
            token, StepRecord(b"", {}, [made], after_promotion=newest.seq if newest else 0)
        )
        return made

    def promote(self, snapshot: Snapshot, kind: PromotionKind = PromotionKind.PROMOTE) -> None:
        promotion = Promotion(kind, snapshot.version, snapshot.tag, snapshot.sha256, "r", 1.0)
        self.store.promote(promotion, Event("promote", {}, 1.0))

    def canary(self, snapshot: Snapshot, share: float, threshold: float = 0.5) -> None:
        canary = Promotion(
            PromotionKind.CANARY, snapshot.version, snapshot.tag, snapshot.sha256, "r", 1.0,
            operating_point=OperatingPoint(threshold, PointKind.COSTS), share=share,
        )  # fmt: skip
        self.store.promote(canary, Event("canary", {}, 1.0))

    def operate(self, threshold: float, *, version: int | None, verified: bool = True) -> None:
        """Put an operating point in force for a version, as the runner does."""
        kind = PointKind.COSTS if verified else PointKind.UNVERIFIED
        moved = json.dumps({**OperatingPoint(threshold, kind).as_dict(), "version": version})
        real = SqlStore.serving_state
        self.store.serving_state = lambda: real(self.store)._replace(moved=moved)  # type: ignore[method-assign]

    def follower(self, interval: float = 0.01) -> Follower:
        return Follower(self.store, self.registry, interval=interval, telemetry=Telemetry())


@pytest.fixture
def world(package: Package, tmp_path: Path) -> Iterator[World]:
    world = World(package, tmp_path / "selfheal.db")
    yield world
    world.store.close()


def refusals(world: World) -> list[int]:
    return [e.detail["version"] for e in world.store.events() if e.kind == "refused"]


def test_follows(world: World) -> None:
    """A worker serves the newest promotion, also when that is an older version again."""
    first, second = world.snapshot(1), world.snapshot(2)
    world.promote(first)
    follower = world.follower()
    assert follower.champion.version == 1
    old = follower.champion
    world.promote(second)
    follower.poll()
    assert follower.champion.version == 2
    rows = torch.from_numpy(np.zeros((1, 10), dtype=np.float32))
    assert not torch.equal(follower.champion.model(rows), old.model(rows))
    assert old.version == 1  # who holds the old one can finish with it
    world.promote(first, PromotionKind.ROLLBACK)
    follower.poll()
    assert (follower.champion.version, follower.champion.tag) == (1, first.tag)


def test_refuses_a_bad_one(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A promotion that does not verify is refused: the old one serves on, an event and a log
    line name it, once, and the next good one is served."""
    good, bad, later = world.snapshot(1), world.snapshot(2), world.snapshot(3)
    world.promote(good)
    follower = world.follower()
    flip(file_of(bad), "")
    world.promote(bad)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            follower.poll()
    assert follower.champion.version == 1
    assert refusals(world) == [2]
    [line] = [r.getMessage() for r in caplog.records]
    assert bad.tag in line
    world.promote(later)
    follower.poll()
    assert follower.champion.version == 3


def test_threshold_moves_with_the_model(world: World) -> None:
    """The threshold that the runner moves for the served version is followed, in one new value:
    who holds the old one keeps its threshold."""
    world.promote(world.snapshot(1))
    follower = world.follower()
    before = follower.champion
    world.operate(0.25, version=1, verified=False)
    follower.poll()
    after = follower.champion
    assert (after.version, after.threshold, after.verified) == (1, 0.25, False)
    assert after.model is before.model
    assert (before.threshold, before.verified) == (0.5, True)


def test_a_refused_promotion_brings_no_threshold(world: World) -> None:
    """While the promoted adapter does not verify, the model before it keeps its own threshold."""
    good, bad = world.snapshot(1), world.snapshot(2)
    world.promote(good)
    world.operate(0.25, version=1)
    follower = world.follower()
    held = follower.champion
    assert (held.version, held.threshold) == (1, 0.25)
    flip(file_of(bad), "")
    world.promote(bad)
    world.operate(0.9, version=2, verified=False)
    for _ in range(2):
        follower.poll()
    assert follower.champion is held
    restarted = world.follower().champion
    assert (restarted.version, restarted.threshold, restarted.verified) == (1, 0.5, True)


def test_a_rollback_brings_its_own_threshold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an operator's rollback the threshold is the one written with it, not the one of the
    model that was left."""
    first, second = world.snapshot(1), world.snapshot(2)
    world.promote(first)
    world.promote(second)
    world.operate(0.9, version=2)
    follower = world.follower()
    assert follower.champion.threshold == 0.9
    world.promote(first, PromotionKind.ROLLBACK)
    with monkeypatch.context() as patched:
        promotion, moved, _ = world.store.serving_state()
        assert promotion is not None
        rollback = replace(promotion, operating_point=OperatingPoint(0.3, PointKind.COSTS))
        patched.setattr(world.store, "serving_state", lambda: ServingState(rollback, moved))
        follower.poll()
    assert (follower.champion.version, follower.champion.threshold) == (1, 0.3)


def test_a_point_of_an_older_release(world: World) -> None:
    """A point that names no version is the newest promotion's."""
    world.promote(world.snapshot(1))
    real = SqlStore.serving_state(world.store)
    moved = '{"threshold": 0.7, "kind": "unverified"}'
    world.store.serving_state = lambda: real._replace(moved=moved)  # type: ignore[method-assign]
    champion = world.follower().champion
    assert (champion.threshold, champion.verified) == (0.7, False)


def test_start_with_damage(world: World) -> None:
    """A worker that starts serves the newest promotion that verifies and notes what it passed
    over."""
    snapshots = [world.snapshot(v) for v in (1, 2, 3)]
    for snapshot in snapshots:
        world.promote(snapshot)
    for snapshot in snapshots[1:]:
        flip(file_of(snapshot), "")
    follower = world.follower()
    assert follower.champion.version == 1
    assert refusals(world) == [3, 2]
    world.promote(world.snapshot(4))
    follower.poll()
    assert follower.champion.version == 4


def test_nothing_verifies(world: World) -> None:
    """With nothing that verifies a worker does not start: it would serve something unknown."""
    with pytest.raises(SnapshotError):
        world.follower()
    snapshot = world.snapshot(1)
    world.promote(snapshot)
    flip(file_of(snapshot), "")
    with pytest.raises(SnapshotError):
        world.follower()


def test_store_gone_in_between(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A promotion whose adapter could not be fetched, as the store went away after it was seen,
    is served once the store is back."""
    world.promote(world.snapshot(1))
    follower = world.follower()
    world.promote(world.snapshot(2))
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "load", _away)
        with pytest.raises(StoreError):
            follower.poll()
    assert follower.champion.version == 1
    follower.poll()
    assert follower.champion.version == 2


def _away(*_: Any) -> Any:
    raise StoreError("away")


def test_thread(world: World) -> None:
    """Started, it follows by itself, and it outlives a store that cannot be read for a while."""
    world.promote(world.snapshot(1))
    follower = world.follower()
    follower.thread.start()
    try:
        world.promote(world.snapshot(2))
        wait_for(lambda: follower.champion.version == 2, "version 2")
        real, calls = world.store.serving_state, []

        def away() -> Any:
            calls.append(1)
            raise StoreError("away") if len(calls) % 2 else RuntimeError("nobody foresaw this")

        world.store.serving_state = away  # type: ignore[method-assign]
        wait_for(lambda: len(calls) > 2, "looks at the broken store")
        world.store.serving_state = real  # type: ignore[method-assign]
        world.promote(world.snapshot(3))
        wait_for(lambda: follower.champion.version == 3, "version 3")
    finally:
        follower.thread.stop()


def answered_by(follower: Follower, keys: range) -> dict[int, int]:
    """The version that answers each key."""
    return {
        key: (follower.canary if follower.canary and follower.canary.takes(hashed(key))
              else follower.champion).version
        for key in keys
    }  # fmt: skip


def hashed(key: int) -> bytes:
    return key.to_bytes(16, "big")


def test_a_canary_answers_its_share(world: World) -> None:
    """A canary answers about its share of the keys with its own threshold, always the same ones,
    and more of them as the share grows; at the end it answers all, without being loaded again."""
    first, second = world.snapshot(1), world.snapshot(2)
    world.promote(first)
    follower = world.follower()
    world.canary(second, 0.1, threshold=0.3)
    follower.poll()
    assert follower.canary is not None
    assert (follower.champion.version, follower.canary.version) == (1, 2)
    assert (follower.champion.threshold, follower.canary.threshold) == (0.5, 0.3)
    ten = answered_by(follower, range(2000))
    assert 150 < sum(version == 2 for version in ten.values()) < 250
    assert ten == answered_by(follower, range(2000)) == answered_by(world.follower(), range(2000))
    model = follower.canary.model
    world.canary(second, 0.5)
    follower.poll()
    half = answered_by(follower, range(2000))
    assert 900 < sum(version == 2 for version in half.values()) < 1100
    assert all(half[key] == 2 for key, version in ten.items() if version == 2)
    world.promote(second)
    follower.poll()
    assert follower.canary is None
    assert (follower.champion.version, follower.champion.share) == (2, 1.0)
    assert follower.champion.model is model


def test_a_canary_is_drawn_by_request_where_rows_have_no_keys(world: World) -> None:
    """Without keys about its share of the requests is a canary's."""
    world.promote(world.snapshot(1))
    world.canary(world.snapshot(2), 0.25)
    canary = world.follower().canary
    assert canary is not None
    assert 400 < sum(canary.takes(b"") for _ in range(2000)) < 600


def test_a_canary_is_rolled_back(world: World) -> None:
    """Behind a rollback, whatever to, and behind a deployment, nothing is a canary's any more."""
    first, second = world.snapshot(1), world.snapshot(2)
    world.promote(first)
    world.canary(second, 0.5)
    follower = world.follower()
    assert follower.canary is not None
    champion = follower.champion
    world.promote(first, PromotionKind.ROLLBACK)
    follower.poll()
    assert follower.canary is None
    assert follower.champion is champion


def test_a_canary_that_does_not_verify(world: World) -> None:
    """It is refused once, by an event, and the champion answers everything."""
    world.promote(world.snapshot(1))
    follower = world.follower()
    bad = world.snapshot(2)
    flip(file_of(bad), "")
    world.canary(bad, 0.5)
    for _ in range(3):
        follower.poll()
    assert follower.canary is None
    assert follower.champion.version == 1
    assert refusals(world) == [2]


def test_the_champions_point_moves_beside_a_canary(world: World) -> None:
    """The threshold that operations move is the champion's; a canary keeps its own, also in the
    store, which remembers the champion's for a worker that starts."""
    first, second = world.snapshot(1), world.snapshot(2)
    promotion = Promotion(
        PromotionKind.PROMOTE, 1, first.tag, first.sha256, "r", 1.0,
        operating_point=OperatingPoint(0.6, PointKind.COSTS),
    )  # fmt: skip
    world.store.promote(promotion, Event("promote", {}, 1.0))
    world.canary(second, 0.5, threshold=0.3)
    follower = world.follower()
    assert follower.canary is not None
    assert (follower.champion.threshold, follower.canary.threshold) == (0.6, 0.3)
    world.operate(0.8, version=1)
    follower.poll()
    assert (follower.champion.threshold, follower.canary.threshold) == (0.8, 0.3)
