"""What may follow what: the tables, and a service that is taken through them by chance and cut off
between any two statements, on both kinds of store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed import Deployed, died, dying, whole_log
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from rigs import drifting
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import make_url
from steps import untimed, work_off

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.ids import IdSigner
from bento_selfheal.core.records import FeedbackRecord, Phase, PromotionKind, State
from bento_selfheal.core.transitions import (
    LEASES,
    LINES,
    STATES,
    Asker,
    Cause,
    Grant,
    Lease,
    Line,
    Turn,
    follow,
    forward,
    lease_at,
)
from bento_selfheal.deployment.locations import registry_of
from bento_selfheal.errors import IllegalTransition, LeaseLost, PromotionMoved
from bento_selfheal.packaging.model_store import model_folder
from bento_selfheal.packaging.package import Package
from bento_selfheal.runner.runner import Runner
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.store import tables as t

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

BATCH = 20
EXAMPLES = settings.default.max_examples
EVERY = 1 if EXAMPLES > 100 else 13
"""Of the places at which a step can be cut off one in so many is tried."""
PLACES = 45
"""Statements and commits of the longest step."""
Copy = Callable[[str], str]

on_both_stores = pytest.mark.parametrize(
    "fresh", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)


def settings_of(package: Package, url: str, folder: Path, **more: Any) -> Settings:
    own = {"batch_size": BATCH, "heal_rows": 10, "buffer_rows": 200, "lease_seconds": 60, **more}
    return Settings(model=package.tag, state_dir=folder, store_url=url, **own)


# -- the tables --------------------------------------------------------------------------------


def test_states() -> None:
    """Nothing but a heal leaves HEALING, and nothing but a heal comes to it."""
    for cause, moves in STATES.items():
        assert (State.HEALING in moves) == (cause is Cause.HEALED)
        reached = set().union(*moves.values())
        assert (State.HEALING in reached) == (cause is Cause.HEAL)
    with pytest.raises(IllegalTransition, match="signals: HEALING may not become DRIFTING"):
        follow(STATES, State.HEALING, Cause.SIGNALS, State.DRIFTING)


def test_lines() -> None:
    """Only the gate proves a line, only of one that was trained; a new line has proven nothing."""
    proven = {(turn, before) for turn, moves in LINES.items() for before in moves
              if before is not Line.PROVEN and Line.PROVEN in moves[before]}  # fmt: skip
    assert proven == {(Turn.JUDGE, Line.ON_TRIAL)}
    with pytest.raises(IllegalTransition):
        follow(LINES, Line.NEW, Turn.JUDGE, Line.NEW)


def test_leases() -> None:
    """The table is whole; only a lease that is held keeps others out."""
    assert set(LEASES) == {(lease, asker) for lease in Lease for asker in Asker}
    assert {lease for (lease, _), grant in LEASES.items() if grant is Grant.REFUSE} == {Lease.HELD}
    assert lease_at(10.0, 10.0, 5.0) is Lease.OVER


@pytest.mark.parametrize("place", [7, 6])
def test_cursors(place: int) -> None:
    """A cursor neither stands still nor goes back."""
    assert forward("feedback", 7, 8) == 8
    with pytest.raises(IllegalTransition, match="feedback: the cursor at 7"):
        forward("feedback", 7, place)


# -- cut off at every statement ------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copies a store that nobody has open; gives the copy's URL."""
    numbers = count(1)

    def sqlite(url: str) -> str:
        target = tmp_path / f"copy{next(numbers)}" / "selfheal.db"
        target.parent.mkdir()
        with_url = make_url(url).database
        assert with_url is not None
        shutil.copy(with_url, target)
        return f"sqlite:///{target}"

    def postgres(url: str) -> str:
        parsed, name = make_url(url), f"copy{next(numbers)}_{Path(tmp_path).name[-8:]}"
        engine = create_engine(parsed.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as c:
            c.execute(text(f'create database "{name}" template "{parsed.database}"'))
        engine.dispose()
        return parsed.set(database=name).render_as_string()

    return lambda url: (sqlite if url.startswith("sqlite") else postgres)(url)


def decide_classes(service: Deployed) -> tuple[Any, ...]:
    """All that a service came to, without times."""
    store = service.store
    return (
        untimed(store.status()),
        [(p.kind, p.version, p.sha256, p.reason) for p in store.promotions()],
        [(s.version, s.phase, s.sha256, s.rows) for s in store.snapshots(kept_only=False)],
        [(e.kind, e.detail) for e in store.events()],
        [(m.batch, m.labelled_batch) for m in store.measurements(scored_only=True)],
        store.ends(),
    )


@on_both_stores
@pytest.mark.slow
def test_every_statement(
    package: Package, fresh: Callable[[], str], copy: Copy, tmp_path: Path
) -> None:
    """A runner killed between any two statements of a step that heals and promotes leaves a store
    from which the next one comes to what one that was never killed came to."""
    url = fresh()
    own = settings_of(package, url, tmp_path, gate="always")
    service = Deployed(own)
    rows, labels = drifting(clean=2 * BATCH, drifted=2 * BATCH)
    service.label(service.ask(rows), labels)
    service.close()

    def runs(at: int) -> tuple[int, tuple[Any, ...]]:
        one = Deployed(own.model_copy(update={"store_url": copy(url)}))
        first = one.runner()
        with dying(first.store, at) as fate:
            work_off(first)
        if fate.killed:
            died(first)
            work_off(one.runner())
        found = decide_classes(one)
        one.close()
        return fate.places, found

    places, undisturbed = runs(10_000)
    promoted = [p for p in undisturbed[1] if p[0] is PromotionKind.PROMOTE]
    assert promoted
    assert places > 20
    for at in range(0, places, EVERY):
        assert runs(at)[1] == undisturbed, f"killed at place {at} of {places}"


# -- by chance ---------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """Rows, labels, runners that come and go, operators; and a model of what must hold."""

    def __init__(self, package: Package, fresh: Callable[[], str], folder: Path) -> None:
        super().__init__()
        self.package, self.url, self.folder = package, fresh(), folder
        self.generator = np.random.default_rng(0)
        self.owed: list[tuple[str, int]] = []
        self.doubted: list[tuple[str, int]] = []
        self.acknowledged: dict[str, int] = {}
        self.logged = 0
        self.promotions: list[Any] = []
        self.events: list[Any] = []
        self.cursors, self.token = (0, 0), 0
        self.state = State.HEALTHY

    @initialize(
        how=st.sampled_from(["always", "evidence", "canary"]), kept=st.sampled_from([5, 20])
    )
    def deploy(self, how: str, kept: int) -> None:
        gate, canary = ("evidence", ("50",)) if how == "canary" else (how, ())
        own = settings_of(
            self.package, self.url, self.folder, gate=gate, snapshots_kept=kept, canary=canary,
            canary_labels=20,
        )  # fmt: skip
        self.service = Deployed(own)
        self.store = self.service.store
        self.runners = [self.service.runner(), self.service.runner()]
        self.registry = registry_of(self.package, self.store, own)
        self.signer = IdSigner(self.store.meta("secret") or "")

    # -- rows and labels

    @rule(rows=st.integers(5, 60), drift=st.sampled_from([0.0, 2.2, 3.5]))
    def predict(self, rows: int, drift: float) -> None:
        table = article_rows(rows, drift, self.generator)
        ids = self.service.ask(table.rows)
        self.logged += rows
        self.owed += list(zip(ids, (int(v) for v in table.labels), strict=True))

    @rule(drift=st.sampled_from([0.0, 2.2, 3.5]))
    def predict_and_label(self, drift: float) -> None:
        self.predict(BATCH + 5, drift)
        self.give_labels(80)

    @rule(labels=st.integers(1, 80))
    def give_labels(self, labels: int) -> None:
        given, self.owed = self.owed[:labels], self.owed[labels:]
        if given:
            self._acknowledge(given, again=False)

    @rule(labels=st.integers(1, 40), at=st.integers(0, 8))
    def give_labels_and_lose_the_answer(self, labels: int, at: int) -> None:
        """The worker is killed while it writes: nothing was acknowledged."""
        given, self.owed = self.owed[:labels], self.owed[labels:]
        if not given:
            return
        keys = [(*(self.signer.read(i) or (b"", 0)), label) for i, label in given]
        records = [FeedbackRecord(request, row, label, 1.0) for request, row, label in keys]
        with dying(self.service.worker.store, at) as fate:
            self.service.worker.store.add_feedback(records)
        if fate.killed:
            self.doubted += given
        else:
            self.acknowledged |= dict(given)
        self.service.new_worker()

    @rule()
    def give_doubted_labels_again(self) -> None:
        given, self.doubted = self.doubted, []
        if given:
            self._acknowledge(given, again=True)

    def _acknowledge(self, given: list[tuple[str, int]], *, again: bool) -> None:
        told = self.service.label([i for i, _ in given], [label for _, label in given])
        accepted, known, unknown, conflicts = (told.counts[o] for o in told.counts)
        assert unknown == conflicts == 0
        assert accepted + known == len(given)
        assert again or known == 0
        self.acknowledged |= dict(given)

    @rule()
    def restart_worker(self) -> None:
        self.service.new_worker()

    # -- runners

    @rule(who=st.integers(0, 1))
    def step(self, who: int) -> None:
        self._try(self.runners[who])

    @rule(who=st.integers(0, 1))
    def work(self, who: int) -> None:
        for _ in range(20):
            if not self._try(self.runners[who]):
                break

    def _try(self, runner: Runner) -> bool:
        try:
            return runner.step()
        except (LeaseLost, PromotionMoved):
            return True

    @rule(who=st.integers(0, 1), at=st.integers(0, PLACES))
    def kill_in_step(self, who: int, at: int) -> None:
        self.predict_and_label(2.2)
        runner = self.runners[who]
        with dying(runner.store, at) as fate:
            self._try(runner)
        if fate.killed:
            died(runner)
            self.runners[who] = self.service.runner()

    @rule(who=st.integers(0, 1))
    def lease_runs_out(self, who: int) -> None:
        """It was stopped for too long; it does not know."""
        self.store.release_lease(self.runners[who].owner)

    @rule(who=st.integers(0, 1))
    def stopped_past_its_lease(self, who: int) -> None:
        """It goes on where it was, with the other one leading."""
        self.work(who)
        self.lease_runs_out(who)
        self.predict_and_label(2.2)
        self.work(1 - who)
        self.predict_and_label(2.2)
        self.work(who)

    # -- operators

    @rule(back=st.integers(0, 3))
    def roll_back(self, back: int) -> None:
        self._roll_back(back)

    def _roll_back(self, back: int) -> None:
        serving = self.store.newest_promotion()
        assert serving is not None
        others = [s.version for s in self.store.snapshots() if s.version != serving.version]
        if others:
            self.service.worker.operations.rollback(others[-1 - back % len(others)])

    @rule(who=st.integers(0, 1), back=st.integers(0, 3))
    def roll_back_in_step(self, who: int, back: int) -> None:
        self.predict_and_label(2.2)
        runner = self.runners[who]
        read = runner.store.read_log

        def meanwhile(*cursors: int) -> Any:
            runner.store.read_log = read  # type: ignore[method-assign]
            self._roll_back(back)
            return read(*cursors)

        runner.store.read_log = meanwhile  # type: ignore[method-assign]
        self._try(runner)
        runner.store.read_log = read  # type: ignore[method-assign]

    @rule(kind=st.sampled_from(["pause", "observe", "resume", "resume", "heal"]))
    def command(self, kind: str) -> None:
        self.service.worker.operations.command(kind)

    # -- what must hold

    @invariant()
    def labels_are_kept_once(self) -> None:
        kept = self._labels()
        assert {self._key(i): label for i, label in self.acknowledged.items()}.items() <= (
            dict(kept).items()
        )
        assert len(dict(kept)) == len(kept)
        doubted = {self._key(i) for i, _ in self.doubted}
        assert dict(kept).keys() <= {self._key(i) for i in self.acknowledged} | doubted

    def _labels(self) -> list[tuple[tuple[bytes, int], int]]:
        log = whole_log(self.store)
        places = [e.seq for e in log if isinstance(e, FeedbackRecord)]
        assert places == sorted(places)
        return [((e.request, e.row), e.label) for e in log if isinstance(e, FeedbackRecord)]

    def _key(self, prediction_id: str) -> tuple[bytes, int]:
        return self.signer.read(prediction_id) or (b"", -1)

    @invariant()
    def promotions_are_lawful(self) -> None:
        log, snapshots = self.store.promotions(), self.store.snapshots(kept_only=False)
        assert log[: len(self.promotions)] == self.promotions, "the log only grows"
        self.promotions = log
        phases = {s.version: s.phase for s in snapshots}
        hashes = {s.version: s.sha256 for s in snapshots}
        assert [p.kind for p in log].count(PromotionKind.INITIAL) == 1
        assert log[0].kind is PromotionKind.INITIAL
        for before, now in pairwise(log):
            if now.version == before.version:  # what answers a share answers all, and no less
                assert before.kind is PromotionKind.CANARY
                assert now.kind is PromotionKind.PROMOTE
            assert now.sha256 == hashes[now.version]
            assert now.kind is not PromotionKind.PROMOTE or phases[now.version] is Phase.POST
        told = [e.detail["version"] for e in self.store.events() if e.kind == "promote"]
        assert told == [p.version for p in log if p.kind is PromotionKind.PROMOTE]

    @invariant()
    def heals_are_made_once(self) -> None:
        events = self.store.events(limit=100_000)
        assert events[: len(self.events)] == self.events, "the log only grows"
        self.events = events
        heals = [e for e in events if e.kind == "heal"]
        numbers = [e.detail["heal"] for e in heals]
        assert numbers == list(range(1, len(numbers) + 1))
        versions = [e.detail["version"] for e in heals]
        assert versions == sorted(set(versions))

    @invariant()
    def cursors_and_tokens_go_forward(self) -> None:
        status = self.store.status()
        cursors = status["cursors"]["predictions"], status["cursors"]["feedback"]
        assert all(now >= before for before, now in zip(self.cursors, cursors, strict=True))
        assert all(now <= end for now, end in zip(cursors, self.store.ends(), strict=False))
        with self.store._db.read() as c:
            token = int(c.execute(select(t.runner.c.token)).scalar_one())
        assert token >= self.token
        self.cursors, self.token = cursors, token
        assert State(status["state"]) in State

    @invariant()
    def what_serves_verifies(self) -> None:
        for snapshot in self.store.snapshots():
            assert model_folder(snapshot.tag).exists(), f"{snapshot.tag} is kept"
        newest = self.store.newest_promotion()
        assert newest is not None
        self.registry.load(newest.tag, newest.sha256)
        self.service.worker.follower.poll()
        assert self.service.worker.follower.champion.version == newest.version

    def teardown(self) -> None:
        """The next runner comes to know every label, once, and heals on."""
        try:
            for runner in self.runners:
                self.store.release_lease(runner.owner)
            self.service.worker.operations.command("resume")
            before = self.store.status()["heals"]
            self.predict(3 * BATCH, 3.5)
            self._acknowledge(self.owed + self.doubted, again=True)
            self.doubted = []
            last = self.service.runner()
            work_off(last)
            last.step()
            status = self.store.status()
            assert status["labels"]["joined"] == len(self.acknowledged)
            assert status["predicted_rows"] == self.logged
            assert status["heals"] > before
            self.heals_are_made_once()
            self.promotions_are_lawful()
        finally:
            self.service.close()


@pytest.fixture
def life(package: Package, fresh: Callable[[], str], tmp_path: Path) -> Callable[[], Life]:
    return lambda: Life(package, fresh, tmp_path)


@on_both_stores
@pytest.mark.slow
def test_life(life: Callable[[], Life]) -> None:
    """Whatever happens in whatever order, and wherever a process is cut off: no acknowledged label
    is lost or counted twice, no heal made twice, and what serves is lawful and verifies."""
    run_state_machine_as_test(
        life,
        settings=settings(
            max_examples=EXAMPLES // 10 if EXAMPLES > 100 else 2, stateful_step_count=25,
            deadline=None, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
