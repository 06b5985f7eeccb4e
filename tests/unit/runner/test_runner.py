"""The runner, stepped by hand on a deployed store: one leads, nothing is done twice or lost."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pyarrow.parquet
import pytest
from conftest import wait_for
from packages import other_package
from rigs import drifting
from steps import BATCH, LAZY, Item, handed_over, send, untimed, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import ids_of
from bento_selfheal.core.records import Event, PredictionRecord, PromotionKind
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.errors import LeaseLost, PromotionMoved
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.runner.pacing import LONGEST_REST, rest_seconds
from bento_selfheal.runner.reading import READ_REQUESTS
from bento_selfheal.runner.runner import Runner
from bento_selfheal.runner.status_board import TROUBLE_AFTER
from bento_selfheal.serving.worker import Worker
from bento_selfheal.simulation.comparison import backtest_log
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.store import SqlStore
from bento_selfheal.telemetry.spans import Telemetry


@pytest.fixture
def settings(package: Package, tmp_path: Path) -> Settings:
    return Settings(model=package.tag, state_dir=tmp_path / "state", batch_size=BATCH,
                    replay_rate=LAZY, lease_seconds=60)  # fmt: skip


@pytest.fixture
def store(settings: Settings) -> Iterator[SqlStore]:
    prepare(settings)
    store = open_store(settings)
    yield store
    store.close()


@pytest.fixture
def make(store: SqlStore, settings: Settings) -> Iterator[Callable[..., Runner]]:
    """Runners over the deployed store."""
    runners: list[Runner] = []

    def new(**more: Any) -> Runner:
        runners.append(Runner(settings.model_copy(update=more), Telemetry()))
        return runners[-1]

    yield new
    for runner in runners:
        runner.store.close()


@pytest.fixture
def worker(store: SqlStore, settings: Settings) -> Iterator[Worker]:
    worker = Worker(settings, Telemetry())
    yield worker
    worker.store.close()


def test_catches_up(store: SqlStore, worker: Worker, make: Callable[..., Runner],
                    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A runner that is behind reads on for as long as its last checkpoint was long in writing, and
    writes once; a promotion is written at once."""
    monkeypatch.setattr("bento_selfheal.runner.reading.READ_WRITES", 1e9)
    rows = article_rows(3 * READ_REQUESTS, 0.0, np.random.default_rng(1)).rows
    runner = make()
    assert not runner.step()  # it takes the deployment over, and writes
    for row in rows:
        worker.answer(row[None])
    worker.log.flush()
    assert work_off(runner) == 1
    assert store.status()["predicted_rows"] == len(rows)
    assert store.status()["unread"] == {"requests": 0, "labels": 0}
    send(worker, *drifting())
    assert runner.step()
    unread = store.status()["unread"]
    assert unread["requests"] > 0 < unread["labels"] < 1000
    assert 1 + work_off(runner) >= store.status()["promotions"] >= 1


def test_retired_unread(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """Labels whose predictions went before a runner that is behind came to them are unmatched;
    none waits for ever, and those of the predictions that are left are learned."""
    send(worker, *drifting(clean=100, drifted=100))
    assert store.retire_predictions(0.0, store.logged()[0] // 2, limit=1000) == 2
    work_off(make())
    labels = store.status()["labels"]
    assert (labels["joined"], labels["unmatched"], labels["waiting"]) == (100, 100, 0)


def test_heals(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """From the logs alone the runner heals and promotes; the worker serves what the promotion
    log says, and everything of it can be read in the store."""
    runner = make()
    send(worker, *drifting(), drain=runner)
    status = store.status()
    assert status["heals"] == sum(e.kind == "heal" for e in store.events()) >= 3
    promotions = store.promotions()
    assert promotions[0].kind is PromotionKind.INITIAL
    promoted = [p for p in promotions if p.kind is PromotionKind.PROMOTE]
    assert status["promotions"] == len(promoted) >= 1
    refreshed = [p for p in promotions if p.kind is PromotionKind.REFRESH]
    assert len(promotions) == 1 + len(promoted) + len(refreshed)
    assert worker.follower.champion.version == promotions[-1].version
    assert status["serving"]["version"] == promotions[-1].version
    point = json.loads(store.serving_state()[1] or "")
    assert point["version"] == promotions[-1].version, "the threshold names its model"
    kept = {s.version: s for s in store.snapshots()}
    assert {1, promotions[-1].version} <= kept.keys()
    for s in kept.values():
        worker.follower.load(s.tag, s.sha256)
    assert (status["cursors"]["predictions"], status["cursors"]["feedback"]) == store.ends()[:2]
    assert runner.step() is False


def test_first_heal_is_shown_whole(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heal in a runner's very first step is shown, and beside it what serves."""
    shown: list[dict[str, Any]] = []
    send(worker, *drifting())
    runner = make()
    monkeypatch.setattr(runner.store, "show_status", lambda _, status: shown.append(status))
    runner.step()
    assert shown[0]["state"] == "HEALING"
    assert shown[0]["serving"]["version"] == 1
    assert shown[0]["cursors"] == {"predictions": 0, "feedback": 0, "commands": 0}


def test_one_leads(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """While one runner leads a second one does nothing; when it is gone the second goes on."""
    one, two = make(), make()
    one.step()
    send(worker, *drifting(clean=100, drifted=0))
    before = (store.state(), store.status())
    assert two.step() is False
    assert (store.state(), store.status()) == before
    assert one.step() is True
    handed_over(one)
    send(worker, *drifting(clean=100, drifted=0))
    assert two.step() is True


def test_a_prediction_that_does_not_fit(
    store: SqlStore, worker: Worker, make: Callable[..., Runner]
) -> None:
    """A logged request with another number of answers than rows is set aside with an event, its
    labels are unmatched, and the steps go on."""
    rows, labels = drifting(clean=2 * BATCH, drifted=0)
    odd = []
    for n, answers in enumerate((0, 2, 5)):
        request, token = worker.signer.issue(3, logged=True)
        odd.append(Item(ids_of(token, 3)[2], 1))
        given = np.full(answers, 0.5, np.float32)
        worker.log.append(PredictionRecord(request, rows[n : n + 3], given, 1, time.time()))
    worker.feedback.accept(odd[:2], None)
    worker.log.flush()
    worker.feedback.accept(odd[2:], None)
    send(worker, rows, labels)
    runner = make()
    work_off(runner)
    events = [e.detail["error"] for e in store.events() if e.kind == "prediction_set_aside"]
    assert len(events) == 3
    status = store.status() or {}
    assert status["labels"]["unmatched"] == 3
    assert (status["labels"]["joined"], status["unread"]["labels"]) == (2 * BATCH, 0)


def test_succession(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings,
    package: Package, tmp_path: Path,
) -> None:  # fmt: skip
    """Runners that succeed each other in the middle of a log come to the same heals, versions,
    hashes, events and status as one that never stopped."""
    rows, labels = drifting(clean=100, drifted=400)
    answers = [worker.answer(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]
    worker.log.flush()
    for n, answer in enumerate(answers):
        given = labels[n * BATCH : (n + 1) * BATCH]
        worker.feedback.accept(
            [Item(i, int(v)) for i, v in zip(answer.ids, given, strict=True)], None
        )
    told = []
    copies = [settings.state_dir, tmp_path / "copy"]
    copies[1].mkdir()
    source, target = (sqlite3.connect(folder / "selfheal.db") for folder in copies)
    source.backup(target)
    source.close()
    target.close()
    for folder, stops in ((copies[0], False), (copies[1], True)):
        own = settings.model_copy(update={"state_dir": folder})
        runner = Runner(own, Telemetry())
        # Small reads, so that there are many places to stop at.
        while True:
            read = runner.store.read_log
            runner.store.read_log = lambda p, f, limit=3, read=read: read(p, f, 3)  # type: ignore[method-assign]
            worked = runner.step()
            if not worked:
                break
            if stops:
                handed_over(runner)
                runner.store.close()
                runner = Runner(own, Telemetry())
        told.append((
            untimed(runner.store.status()),
            [replace(s, time=0) for s in runner.store.snapshots(kept_only=False)],
            [replace(p, time=0) for p in runner.store.promotions()],
            [replace(e, time=0) for e in runner.store.events()],
        ))  # fmt: skip
        runner.store.close()
    assert told[0][0]["heals"] > 3
    assert told[0] == told[1]


def test_killed_in_a_step(store: SqlStore, worker: Worker, make: Callable[..., Runner],
                          monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A runner that dies between its heal's snapshots and its commit leaves nothing behind that
    counts: its successor makes that heal, once, under the same version."""
    send(worker, *drifting(clean=100, drifted=500))
    dead = make()

    def die(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(dead.store, "commit", die)
    with pytest.raises(KeyboardInterrupt):
        work_off(dead)
    assert store.state() is None
    assert [s.version for s in store.snapshots()] == [1]
    handed_over(dead)
    work_off(make())
    heals = [e.detail for e in store.events() if e.kind == "heal"]
    assert [h["heal"] for h in heals] == list(range(1, len(heals) + 1))
    assert len({h["version"] for h in heals}) == len(heals) > 0
    for s in store.snapshots():
        worker.follower.load(s.tag, s.sha256)


def test_succeeded_unnoticed(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """A leader that was stopped and succeeded writes nothing when it wakes, and stands by."""
    one, two = make(), make()
    one.step()
    send(worker, *drifting(clean=100, drifted=0))
    handed_over(one)
    assert two.step()
    before = store.status()
    send(worker, *drifting(clean=100, drifted=0))
    with pytest.raises(LeaseLost):
        one.step()
    assert store.status() == before
    assert one.step() is False
    work_off(two)
    assert store.status()["labels"]["joined"] == 200


def test_leader_again(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """A leader that slept while another one led and died takes up from that one's checkpoint,
    though it is the leader again before it looks."""
    one, two = make(lease_seconds=0.2), make()
    assert one.step() is False
    send(worker, *drifting(clean=100, drifted=0))
    handed_over(one)
    work_off(two)
    handed_over(two)
    one.lease.renew()
    assert not one.lease.held
    send(worker, *drifting(clean=100, drifted=0))
    work_off(one)
    assert store.status()["labels"]["joined"] == 200
    assert store.status()["predicted_rows"] == 200


def test_operator_in_a_step(store: SqlStore, worker: Worker, make: Callable[..., Runner],
                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """An operator's rollback during a step voids the step; the next one starts from what he
    chose, and all labels are still learned once."""
    runner = make()
    send(worker, *drifting(), drain=runner)
    serving = store.promotions()[-1].version
    assert serving > 1
    send(worker, *drifting(seed=5, clean=0, drifted=100))
    read = runner.store.read_log

    def meanwhile(*cursors: int) -> Any:
        monkeypatch.setattr(runner.store, "read_log", read)
        worker.operations.rollback(1)
        return read(*cursors)

    monkeypatch.setattr(runner.store, "read_log", meanwhile)
    with pytest.raises(PromotionMoved):
        runner.step()
    assert runner.step()
    work_off(runner)
    status = store.status()
    assert status["rollbacks"] == 1
    assert status["labels"]["joined"] == 1100
    assert status["serving"]["version"] == store.promotions()[-1].version
    rolled = [p.by for p in store.promotions() if p.kind is PromotionKind.ROLLBACK]
    assert rolled == ["operator"]


def test_commands(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """Pause, resume and heal are obeyed once, in order, also by a successor."""
    runner = make()
    send(worker, *drifting(clean=100, drifted=0), drain=runner)
    before = store.status()["heals"]
    for kind in ("pause", "heal", "resume", "pause"):
        store.add_command(kind, by="anna")
    runner.step()
    assert store.status()["paused"]
    assert store.status()["heals"] == before + 1
    handed_over(runner)
    later = make()
    later.step()
    told = [e.kind for e in store.events() if e.kind in ("pause", "resume", "heal")]
    assert told == ["heal"] * before + ["pause", "heal", "resume", "pause"]
    asked = [e.detail["by"] for e in store.events() if e.kind in ("pause", "resume", "heal_asked")]
    assert asked == ["anna"] * 4
    assert later.status["paused"]


def test_thresholds(store: SqlStore, make: Callable[..., Runner]) -> None:
    """New rollback thresholds are in force after the next step, and an event says which."""
    runner = make()
    runner.step()
    runner.thresholds.path.write_text('{"rollback_f1_drop": 0.031}')
    runner.step()
    assert store.status()["thresholds"]["rollback_f1_drop"] == 0.031
    assert [e.detail["rollback_f1_drop"] for e in store.events() if e.kind == "thresholds"] == [
        0.031
    ]


def test_surplus_leaves_the_model_store(store: SqlStore, worker: Worker,
                                        make: Callable[..., Runner]) -> None:  # fmt: skip
    """No more snapshots than allowed are kept, in the store's list and in the model store."""
    runner = make(snapshots_kept=5)
    send(worker, *drifting(), drain=runner)
    prefix = f"{worker.package.name}-adapter:{store.meta('store_id')}-"
    stored = {str(m.tag) for m in bentoml.models.list() if str(m.tag).startswith(prefix)}
    assert stored == {s.tag for s in store.snapshots()}
    assert len(stored) <= 5
    assert len(store.snapshots(kept_only=False)) > 6


def test_prepare_twice(store: SqlStore, settings: Settings) -> None:
    """Preparing again changes nothing."""
    before = (store.promotions(), store.events(), store.snapshots(), store.meta("start"),
              store.status())  # fmt: skip
    prepare(settings)
    assert (store.promotions(), store.events(), store.snapshots(), store.meta("start"),
            store.status()) == before  # fmt: skip
    assert len(store.promotions()) == 1


def test_status_before_any_runner(store: SqlStore, package: Package) -> None:
    """A deployment shows where it starts before a runner has led."""
    status = store.status()
    assert (status["state"], status["model"], status["heals"]) == ("HEALTHY", package.tag, 0)
    assert status["serving"]["version"] == 1


def test_new_package_takes_over(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """A newly packaged model serves from its clean adapter under a version of its own; the runner
    begins anew behind what is logged; labels of the old model's rows are not learned by it."""
    old = make()
    rows, labels = drifting()
    send(worker, rows, labels, drain=old)
    owed = worker.answer(rows[:BATCH]).ids
    worker.log.flush()
    used = {s.version for s in store.snapshots(kept_only=False)}
    handed_over(old)
    package = other_package("another-one")
    own = settings.model_copy(update={"model": package.tag})
    prepare(own)
    newest = store.newest_promotion()
    assert newest is not None
    assert newest.kind is PromotionKind.INITIAL
    assert newest.version not in used
    successor, fresh = Worker(own, Telemetry()), make(model=package.tag)
    assert successor.package.tag == package.tag
    assert successor.follower.champion.version == newest.version
    successor.feedback.accept([Item(i, 0) for i in owed], None)
    work_off(fresh)
    status = store.status()
    assert (status["model"], status["predicted_rows"], status["heals"]) == (package.tag, 0, 0)
    assert status["labels"] == {**status["labels"], "joined": 0, "unmatched": BATCH}
    send(successor, rows, labels, drain=fresh)
    status = store.status()
    assert status["labels"]["joined"] == len(rows)
    assert status["heals"] > 0
    assert {h["version"] for h in heals_after(store, newest.seq)}.isdisjoint(used)
    successor.store.close()


def heals_after(store: SqlStore, promotion: int) -> list[dict[str, Any]]:
    """Heals noted after the newest deployment."""
    events = store.events()
    start = max(i for i, e in enumerate(events) if e.kind == "deployed")
    return [e.detail for e in events[start:] if e.kind == "heal"]


@pytest.mark.slow
def test_old_package_again(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """A package that comes back after another one begins anew too: no version is used twice."""
    runner = make()
    rows, labels = drifting()
    send(worker, rows, labels, drain=runner)
    handed_over(runner)
    prepare(settings.model_copy(update={"model": other_package("in-between").tag}))
    prepare(settings)
    used = {s.version for s in store.snapshots(kept_only=False)}
    again = make()
    again.step()
    assert store.status()["heals"] == 0
    back = Worker(settings, Telemetry())
    send(back, rows, labels, drain=again)
    assert {h["version"] for h in heals_after(store, 0)}.isdisjoint(used)
    back.store.close()


def test_thread(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """Started, it works by itself, outlives an error that nobody foresaw, and stopped it lets a
    successor lead at once."""
    runner = make(poll_interval=0.01)
    real, failed = runner.store.commands, threading.Event()

    def broken(after: int) -> Any:
        failed.set()
        runner.store.commands = real  # type: ignore[method-assign]
        raise RuntimeError("nobody foresaw this")

    runner.store.commands = broken  # type: ignore[method-assign]
    runner.start()
    send(worker, *drifting(clean=100, drifted=0))
    wait_for(lambda: store.status().get("labels", {}).get("joined") == 100, "100 joined labels")
    assert failed.is_set()
    runner.stop()
    assert make().store.acquire_lease("successor", 60)


def test_a_step_that_fails_again_and_again_is_loud(
    store: SqlStore, make: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """From the fifth failure in a row on, the status says what fails and where, and one event and
    one log line tell of it; when the step goes through again, the trouble is over."""
    runner = make()
    assert runner._work() == runner._settings.tuning.poll_interval
    real = runner._reader.read

    def poisoned(*_: Any) -> bool:
        raise IndexError("index out of range in self")

    monkeypatch.setattr(runner._reader, "read", poisoned)
    for number in range(1, TROUBLE_AFTER + 3):
        with pytest.raises(IndexError):
            runner._work()
        trouble = store.status()["trouble"]
        assert bool(trouble) is (number >= TROUBLE_AFTER)
    assert "IndexError: index out of range in self" in trouble
    assert "after prediction 0 and label 0" in trouble
    assert caplog.text.count("no label is learned") == 1
    assert store.status()["failing"] == TROUBLE_AFTER
    monkeypatch.setattr(runner._reader, "read", real)
    runner._work()
    assert (store.status()["trouble"], store.status()["failing"]) == ("", 0)
    kinds = [e.kind for e in store.events()]
    assert kinds[-2:] == ["step_failing", "step_recovered"]


def test_a_dead_thread_is_seen(
    store: SqlStore, make: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/status` and `/livez` of the runner show that one of its threads has died, though there
    is nothing to read or learn."""

    def die() -> float:
        raise SystemExit("torn down")

    runner = make(poll_interval=0.01, lease_seconds=0.05)
    monkeypatch.setattr(runner._tasks._upkeep[0].thread, "_work", die)
    monkeypatch.setattr(runner._tasks._upkeep[0].thread, "_first", 0.0)
    runner.start()

    def shown() -> bool:
        threads = {t["name"]: t["alive"] for t in store.status().get("threads", [])}
        return threads == {"selfheal-runner": True, "selfheal-lease": True,
                           "selfheal-retention": False, "selfheal-keys": True}  # fmt: skip

    wait_for(shown, "the dead thread in the status")
    assert not runner.alive
    runner.stop()


def test_a_runner_whose_steps_have_ended_lets_another_lead(
    make: Callable[..., Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the thread of the steps is dead, the lease is not renewed in its name for ever."""
    runner, other = make(), make()
    assert runner.lease.acquire()
    assert not other.lease.acquire()
    runner._beat()
    assert other.lease.acquire()


def test_rests_after_heals(worker: Worker, make: Callable[..., Runner]) -> None:
    """The share of a core that heals may take decides how long the runner rests after one."""
    runner = make(heal_share=0.2)
    assert rest_seconds(0.0, 0.1, heal_share=0.2) == pytest.approx(0.4)
    assert rest_seconds(0.1, 0.0, heal_share=0.2, behind=True) == pytest.approx(0.1)
    assert rest_seconds(0.01, 0.0, heal_share=0.2) == pytest.approx(0.09), "one that keeps up"
    assert rest_seconds(0.1, 0.0, heal_share=0.2) == pytest.approx(LONGEST_REST)
    assert rest_seconds(0.1, 0.1, heal_share=1) == 0
    send(worker, *drifting(clean=100, drifted=0))
    began = time.thread_time()
    work_off(runner)
    assert 0 < runner._reader.heal_seconds < time.thread_time() - began


def test_evidence_is_json(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """Everything that operators read is plain JSON, without NaN or infinity, also after rows
    that are as large as float32 allows."""
    runner = make()
    rows = np.full((6 * BATCH, 10), 3e38, dtype=np.float32)
    rows[::2] *= -1
    send(worker, rows, np.zeros(len(rows), dtype=int), drain=runner)
    rows = np.full((6 * BATCH, 10), 3e38, dtype=np.float32)
    send(worker, rows, np.zeros(len(rows), dtype=int), drain=runner)
    store.add_event(Event("last", {}, 1.0))
    for told in (store.status(), [e.detail for e in store.events()]):
        json.dumps(told, allow_nan=False)


def test_takes_over_while_serving(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """A freshly packaged model is served by the running workers and healed by the running
    leader, with no restart, and every request in between is answered."""
    leader = make()
    rows, labels = drifting()
    send(worker, rows, labels, drain=leader)
    package = other_package("another-two")
    prepare(settings.model_copy(update={"model": package.tag}))
    before = worker.answer(rows[:BATCH]).probabilities
    worker.follower.poll()
    answer = worker.answer(rows[:BATCH])
    after, champion = answer.probabilities, answer.champion
    newest = store.newest_promotion()
    assert newest is not None
    assert champion.version == newest.version
    assert np.array_equal(after, package.baseline(rows[:BATCH]))
    assert not np.array_equal(before, after)
    worker.log.flush()
    send(worker, rows, labels, drain=leader)
    assert store.status()["model"] == package.tag
    assert store.status()["labels"]["joined"] == len(rows)
    assert store.status()["promotions"] >= 1
    served = store.newest_promotion()
    assert served is not None
    assert worker.follower.champion.version == served.version > newest.version
    assert worker.operations.rollback(newest.version).version == newest.version


def test_other_features_do_not_take_over(
    store: SqlStore, worker: Worker, settings: Settings
) -> None:
    """A package that asks for other features is refused by a running worker, which serves on."""
    table = article_rows(400, 0.0, np.random.default_rng(8))
    package = package_model("narrow", table.rows[:, :3], table.labels, features=["a", "b", "c"],
                            training=Training(epochs=1))  # fmt: skip
    before = worker.follower.champion
    prepare(settings.model_copy(update={"model": package.tag}))
    worker.follower.poll()
    assert worker.follower.champion is before


def test_forget_command(store: SqlStore, worker: Worker, make: Callable[..., Runner]) -> None:
    """A source that an operator forgets is quarantined, its rows leave the buffer, and its later
    labels are counted and not learned."""
    runner = make()
    rows, labels = drifting(clean=100, drifted=0)
    ids = worker.answer(rows).ids
    worker.log.flush()
    items = [Item(i, int(v), source=f"s{n % 2}")
             for n, (i, v) in enumerate(zip(ids, labels, strict=True))]  # fmt: skip
    worker.feedback.accept(items[:60], None)
    work_off(runner)
    assert worker.operations.forget("s1").command == "forget"
    work_off(runner)
    runner.step()
    event = next(e for e in store.events() if e.kind == "quarantine")
    assert (event.detail["source"], event.detail["rows"]) == ("s1", 25)
    worker.feedback.accept(items[60:], None)
    work_off(runner)
    status = store.status()
    assert status["labels"]["refused"] == 20
    assert status["sources"]["s1"]["quarantined"] == "asked for by an operator"


def test_operating_point_reaches_the_worker(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """A capacity in threshold_config.json moves the worker's decisions, not its probabilities."""
    path = settings.state_dir / "threshold_config.json"
    runner = make()
    path.write_text('{"capacity": 100}')
    rows, labels = drifting()
    send(worker, rows, labels, drain=runner)
    assert worker.follower.champion.threshold != 0.5
    assert worker.follower.champion.verified
    flags = np.asarray(worker.decide(worker.answer(rows)))
    assert 0 < flags.mean() < 0.25


def test_retrain_export(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """When healing stays far from what is asked the labelled rows lie ready as Parquet."""
    runner = make(retrain_batches=4)
    rows, _ = drifting(clean=0, drifted=400)
    send(worker, rows, np.random.default_rng(0).integers(0, 2, len(rows)), drain=runner)
    assert store.status()["state"] == "RETRAIN_NEEDED"
    (file,) = (settings.state_dir / "exports").glob("*.parquet")
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == [*ARTICLE_FEATURES, "label", "source", "weight"]
    assert table.num_rows >= 100
    assert set(table.column("label").to_pylist()) == {0, 1}
    event = next(e for e in store.events() if e.kind == "retrain_needed").detail
    assert event["reason"]
    assert (event["export"], event["rows"]) == (str(file), table.num_rows)
    assert event["package"] == store.meta("package")
    schema = event["schema"]
    assert schema["columns"] == dict.fromkeys(ARTICLE_FEATURES, "number")
    assert (schema["label"], schema["source"], schema["weight"]) == ("label", "source", "weight")
    assert (schema["classes"], schema["rows_hold_inputs"]) == ([0, 1], True)


def test_no_room_for_the_export(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """Where the labelled rows cannot be written the event says why, and healing goes on."""
    (settings.state_dir / "exports").write_text("in the way")
    runner = make(retrain_batches=4)
    rows, _ = drifting(clean=0, drifted=400)
    send(worker, rows, np.random.default_rng(0).integers(0, 2, len(rows)), drain=runner)
    assert store.status()["state"] == "RETRAIN_NEEDED"
    event = next(e for e in store.events() if e.kind == "retrain_needed").detail
    assert event["export"] is None
    assert "exports" in event["export_error"]


def test_backtest_of_the_log(
    store: SqlStore, worker: Worker, make: Callable[..., Runner], settings: Settings
) -> None:
    """The store's own log runs again offline under its own and other settings; the same settings
    come to the same answers, and it says which would have been better."""
    rows, labels = drifting(clean=200, drifted=500)
    tuning = settings.tuning.model_copy(update={"recipe": "replay"})  # no label is left over
    settings = settings.model_copy(update={"tuning": tuning})
    runner = make(tuning=tuning)
    send(worker, rows, labels, drain=runner)
    found = backtest_log(settings, [settings, settings.model_copy(update={"mode": "observe"})])
    assert found["promotions"] == store.status()["promotions"] >= 1
    assert found["champion"]["accuracy"] == pytest.approx(store.status()["champion"]["accuracy"])
    same, frozen = found["tries"]
    assert same["settings"] == {}
    assert same["better"]["accuracy"] == 0
    assert frozen["settings"] == {"mode": "observe"}
    assert frozen["champion"] == found["frozen"]
    assert frozen["better"]["accuracy"] < 0
