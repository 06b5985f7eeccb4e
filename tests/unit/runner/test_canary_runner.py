"""A canary in a deployed store: the logs say what answered, through operators and crashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployed import Deployed, died, whole_log
from packages import other_package
from rigs import drifting
from snapshots import file_of, flip
from steps import BATCH, LAZY, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import KEY_HASH_BYTES
from bento_selfheal.core.records import PredictionRecord, PromotionKind
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.errors import CommandError
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner.runner import Runner

REQUEST = 5
CANARY, PROMOTE, ROLLBACK = PromotionKind.CANARY, PromotionKind.PROMOTE, PromotionKind.ROLLBACK


class Service(Deployed):
    """A deployed service, and how much it was asked."""

    asked = 0

    def play(
        self, runner: Runner, until: Callable[[], bool], *, drift: float = 2.2, most: int = 3000
    ) -> None:
        """Ask with keys of the rows' own, and give the labels, until something is so."""
        rows, labels = drifting(seed=self.asked, clean=0, drifted=most, drift=drift)
        for at in range(0, most, BATCH):
            if until():
                return
            for begin in range(at, at + BATCH, REQUEST):
                numbers = range(self.asked, self.asked + REQUEST)
                keys = b"".join(key_of(number) for number in numbers)
                part = slice(begin, begin + REQUEST)
                ids = self.worker.answer(rows[part], keys).ids
                self.worker.log.flush()
                self.label(ids, labels[part])
                self.asked += REQUEST
            work_off(runner)
            self.worker.follower.poll()
        assert until(), "it never came to that"

    @property
    def canary(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.store.status()["canary"]
        return found

    def kinds(self) -> list[PromotionKind]:
        return [p.kind for p in self.store.promotions() if p.kind is not PromotionKind.REFRESH]

    @property
    def promoted(self) -> list[int]:
        return [p.version for p in self.store.promotions() if p.kind is PROMOTE]


def key_of(number: int) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=KEY_HASH_BYTES).digest()


@pytest.fixture
def service(package: Package, tmp_path: Path) -> Iterator[Service]:
    settings = Settings(
        model=package.tag, state_dir=tmp_path / "state", lease_seconds=60, canary=("40",),
        tuning={"batch_size": BATCH, "replay_rate": LAZY, "canary_labels": 60},
    )  # fmt: skip
    service = Service(settings)
    yield service
    service.close()


def begun(service: Service) -> tuple[Runner, int]:
    """A runner, and the version of the canary that it began."""
    runner = service.runner()
    work_off(runner)
    service.play(runner, lambda: service.canary is not None)
    assert service.canary is not None
    return runner, service.canary["version"]


def test_begins_and_ends(service: Service) -> None:
    """The worker answers a share of the keys with the canary, logs who answered each request, and
    tells it in the status; with labels enough the canary answers all."""
    runner, version = begun(service)
    worker = service.worker
    canary = worker.follower.canary
    assert canary is not None
    assert (canary.version, canary.share) == (version, 0.4)
    assert worker.describe()["canary"] == {"version": version, "share": 0.4}
    shares = {s["version"]: s["share"] for s in worker.operations.snapshots() if s["share"]}
    assert shares == {1: 0.6, version: 0.4}
    [told] = [e for e in service.store.events() if e.kind == "canary"]
    assert (told.detail["share"], told.detail["from"]) == (0.4, 1)
    end, first = service.store.ends()[0], service.asked
    service.play(runner, lambda: PROMOTE in service.kinds())
    assert service.kinds()[:3] == [PromotionKind.INITIAL, CANARY, PROMOTE]
    assert service.promoted == [version]
    assert worker.follower.champion.version >= version
    assert worker.follower.canary is None
    requests = [e for e in whole_log(service.store) if isinstance(e, PredictionRecord)]
    for at, entry in enumerate(e for e in requests if e.seq > end):
        expected = version if canary.takes(key_of(first + at * REQUEST)) else 1
        assert entry.version == expected, "the log says who answered"


def test_a_runner_dies_in_the_middle(service: Service) -> None:
    """After kill -9 of runner and worker the same keys are the canary's, and it ends as it would
    have."""
    runner, version = begun(service)
    assert service.worker.follower.canary is not None
    before = [service.worker.follower.canary.takes(key_of(n)) for n in range(500)]
    labels = (service.canary or {})["labels"]
    died(runner)
    service.new_worker()
    again = service.runner()
    again.step()
    assert service.canary is not None
    assert (service.canary["version"], service.canary["labels"]) == (version, labels)
    follower = service.worker.follower
    assert follower.canary is not None
    assert [follower.canary.takes(key_of(n)) for n in range(500)] == before
    service.play(again, lambda: PROMOTE in service.kinds())
    assert service.promoted == [version]


def test_rolled_back_by_hand(service: Service) -> None:
    """A rollback without a version goes back to the champion alone; a runner follows."""
    runner, version = begun(service)
    operations = service.worker.operations
    assert [s["version"] for s in operations.snapshots() if s["previous"]] == [1]
    done = operations.rollback(None, "ann")
    assert (done.kind, done.version) == (ROLLBACK, 1)
    assert done.reason == f"an operator rolled back from {version} to 1"
    service.worker.follower.poll()
    assert service.worker.follower.canary is None
    work_off(runner)
    runner.step()
    assert service.canary is None
    assert service.store.status()["state"] == "ROLLED_BACK"
    with pytest.raises(CommandError, match="nothing older"):
        operations.rollback(None)


def test_let_serve_by_hand(service: Service) -> None:
    """A rollback to the canary's own version lets it answer all; the line trains on."""
    runner, version = begun(service)
    done = service.worker.operations.rollback(version, "ann")
    assert (done.kind, done.version, done.share) == (PROMOTE, version, 1.0)
    service.worker.follower.poll()
    follower = service.worker.follower
    assert (follower.champion.version, follower.canary) == (version, None)
    runner.step()
    status = service.store.status()
    assert (status["serving"]["version"], status["canary"]) == (version, None)
    assert status["promotions"] == 1
    assert status["trial"] is not None, "its challengers go on"
    service.play(runner, lambda: service.canary is not None)
    assert (service.canary or {})["version"] > version


def test_a_checkpoint_is_lost(service: Service) -> None:
    """A runner that begins anew finds the canary in the promotion log, and its evidence begins."""
    runner, version = begun(service)
    died(runner)
    with service.store._db.engine.begin() as c:
        c.exec_driver_sql("update runner set state = x'00'")
    again = service.runner()
    again.step()
    again.step()
    assert service.canary is not None
    assert (service.canary["version"], service.canary["labels"]) == (version, 0)
    service.play(again, lambda: PROMOTE in service.kinds())
    assert service.promoted == [version]


def test_a_damaged_canary(service: Service) -> None:
    """One that does not verify at a restart is refused, and the champion answers everything."""
    runner, version = begun(service)
    died(runner)
    [damaged] = [s for s in service.store.snapshots() if s.version == version]
    flip(file_of(damaged), "")
    service.new_worker()
    assert service.worker.follower.canary is None
    again = service.runner()
    again.step()
    again.step()
    assert service.canary is None
    newest = service.store.promotions()[-1]
    assert (newest.kind, newest.version) == (ROLLBACK, 1)
    service.play(again, lambda: service.canary is not None)


def test_an_erased_row_ends_it(service: Service) -> None:
    """A canary that has seen a row which is erased answers nothing any more."""
    runner, version = begun(service)
    erased = service.store.erase(key=key_of(1), by="ann")
    assert erased is not None
    assert erased.promotion is not None
    assert erased.promotion.version == 1
    assert version in [s.version for s in erased.dropped]
    service.worker.follower.poll()
    assert service.worker.follower.canary is None
    work_off(runner)
    assert service.canary is None


def test_another_row_is_erased(service: Service) -> None:
    """A canary that has not seen the row goes on, and its evidence begins anew."""
    runner, version = begun(service)
    rows, _ = drifting(clean=0, drifted=REQUEST)
    service.worker.answer(rows, b"".join(key_of(-n) for n in range(1, 1 + REQUEST)))
    service.worker.log.flush()
    work_off(runner)
    erased = service.store.erase(key=key_of(-1), by="ann")
    assert erased is not None
    assert (erased.promotion, erased.dropped) == (None, [])
    work_off(runner)
    runner.step()
    assert service.canary is not None
    assert (service.canary["version"], service.canary["labels"]) == (version, 0)
    service.play(runner, lambda: PROMOTE in service.kinds())
    assert service.promoted == [version]


def test_a_deployment_ends_it(service: Service) -> None:
    """A package that is deployed serves all at once."""
    runner, _ = begun(service)
    package = other_package("after-a-canary")
    prepare(service.settings.model_copy(update={"model": package.tag}))
    service.worker.follower.poll()
    follower = service.worker.follower
    newest = service.store.newest_promotion()
    assert newest is not None
    assert follower.canary is None
    assert follower.champion.version == newest.version
    runner.step()
    assert service.canary is None
