"""kill -9 in mid-heal, and a stopped runner: labels, adapters and heals survive (acceptance 5)."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import wait_for
from live import Client, Feeder, processes, served

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

pytestmark = pytest.mark.timeout(300)

WORKERS = 2
# A heal of this many steps takes seconds, so that a kill finds it in the middle.
LONG_HEAL = {"workers": WORKERS, "replay_rate": 7, "lease_seconds": 2}


@dataclass(frozen=True)
class Healing:
    """A server that every test of this file breaks and mends, the last one for good."""

    server: ServedService
    feeder: Feeder
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"


@pytest.fixture(scope="module")
def healing(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Healing]:
    """The server, and who feeds it."""
    folder = tmp_path_factory.mktemp("crash")
    with served(home, package, folder, **LONG_HEAL) as server, Client(server) as client:
        yield Healing(server, Feeder(client, WORKERS), folder)


def mid_heal(feeder: Feeder, client: Client) -> None:
    """Feed drifted batches until two heals are done and another one is under way."""
    wait_for(lambda: feeder.batch()["heals"] >= 2, "two heals")
    feeder.send()
    wait_for(lambda: client.read("/status")["state"] == "HEALING", "a heal under way")


def labels_in(state: Path) -> Counter[tuple[bytes, int]]:
    """How often each labelled row stands in the store."""
    with closing(sqlite3.connect(state / "selfheal.db")) as db:
        return Counter((bytes(r), i) for r, i in db.execute("SELECT request, row FROM feedback"))


def assert_whole(feeder: Feeder, client: Client, state: Path) -> None:
    """Every acknowledged label is there once, a promoted adapter serves, the next heal comes."""
    before = feeder.settle()
    assert before["labels"]["joined"] == feeder.sent
    feeder.batch()
    wait_for(lambda: client.read("/status")["heals"] > before["heals"], "the next heal")
    stored = labels_in(state)
    assert len(stored) == feeder.sent
    assert set(stored.values()) == {1}
    assert client.read("/status")["labels"]["joined"] == feeder.sent

    promoted = {p["version"] for p in client.read("/promotions")}
    assert client.predict([[0.0] * 10])["model_version"] in promoted
    serving = client.read("/status")["serving"]["version"]
    assert serving == client.read("/promotions")[-1]["version"]
    client.all_serve(serving, WORKERS)
    heals = [e["detail"]["heal"] for e in client.events("heal")]
    assert heals == list(range(1, len(heals) + 1))
    assert len(heals) == client.read("/status")["heals"]
    batches = [e["batch"] for e in client.events("heal")]
    assert batches == sorted(set(batches)), "a batch was healed on twice"


def successor(server: ServedService, service: str, count: int, old: set[int]) -> set[int]:
    """Wait until circus has replaced a killed process; the pids now."""

    def replaced() -> set[int] | None:
        pids = {p.pid for p in processes(server, service)}
        return pids if len(pids) == count and pids - old else None

    pids: set[int] = wait_for(replaced, f"{count} processes of {service}")
    return pids


@pytest.mark.slow
def test_a_killed_runner_goes_on_where_it_was(healing: Healing) -> None:
    """kill -9 of the runner in mid-heal: ready in under a second, predictions go on, no loss."""
    server, feeder = healing.server, healing.feeder
    with Client(server) as client:
        feeder.reconnect(client)
        mid_heal(feeder, client)
        (runner,) = processes(server, "HealingRunner")
        runner.kill()
        for _ in range(20):
            assert_ready_within_a_second(server)
            assert len(client.predict([[0.0] * 10])["prediction_ids"]) == 1
        feeder.send()
        successor(server, "HealingRunner", 1, {runner.pid})
        assert_whole(feeder, client, healing.state)


@pytest.mark.slow
def test_a_killed_worker_comes_back_with_the_newest_promotion(healing: Healing) -> None:
    """kill -9 of one worker in mid-heal: the other answers, its successor serves the same."""
    server, feeder = healing.server, healing.feeder
    with Client(server) as client:
        feeder.reconnect(client)
        while client.read("/status").get("promotions", 0) == 0:
            feeder.batch()
        feeder.send()
        wait_for(lambda: client.read("/status")["state"] == "HEALING", "a heal under way")
        pids = {p.pid for p in processes(server, "SelfHealing")}
        assert len(pids) == WORKERS
        psutil.Process(client.worker()["pid"]).kill()
        now = successor(server, "SelfHealing", WORKERS, pids)
        assert len(now & pids) == WORKERS - 1
    with Client(server) as client:
        wait_for(lambda: _answers(server), "predictions again")
        feeder.reconnect(client)
        assert_whole(feeder, client, healing.state)
        serving = client.read("/status")["serving"]["version"]
        assert set(client.all_serve(serving, WORKERS)) == now
        assert serving > 1


@pytest.mark.slow
def test_a_stopped_runner_takes_nothing_with_it(healing: Healing) -> None:
    """With the runner stopped: ready in under a second, predictions and feedback go on."""
    server, feeder = healing.server, healing.feeder
    with Client(server) as client:
        feeder.reconnect(client)
        mid_heal(feeder, client)
        (runner,) = processes(server, "HealingRunner")
        with stopped(runner):
            for _ in range(3):
                assert_ready_within_a_second(server)
                feeder.send()
            wait_for(lambda: client.read("/status")["runner_alive"] is False, "seen as gone")
            assert_ready_within_a_second(server)
        assert_whole(feeder, client, healing.state)


@pytest.mark.slow
def test_a_killed_server_starts_again_with_everything(
    healing: Healing, home: Path, package: Package
) -> None:
    """kill -9 of the whole tree in mid-heal; ids of before it are still good after it."""
    server, feeder = healing.server, healing.feeder
    with Client(server) as client:
        feeder.reconnect(client)
        mid_heal(feeder, client)
        unlabelled = client.predict([[0.1] * 10, [0.2] * 10])["prediction_ids"]
        wait_for(lambda: client.worker()["queue_rows"] == 0, "the log written")
        wait_for(lambda: client.worker()["queue_rows"] == 0, "the log written")
        time.sleep(0.1)  # two group commits of the worker that the looks above did not meet
        tree = psutil.Process(server.process.pid).children(recursive=True)
        assert len(tree) >= WORKERS + 1
        server.kill()
    assert [p.pid for p in tree if p.is_running()] == []
    with served(home, package, healing.folder, **LONG_HEAL) as server, Client(server) as client:
        feeder.reconnect(client)
        assert client.label(unlabelled, [0, 1])["accepted"] == 2
        feeder.sent += 2
        assert_whole(feeder, client, healing.state)


def assert_ready_within_a_second(server: ServedService) -> None:
    """The readiness probe, by a connection of its own."""
    start = time.monotonic()
    assert httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200
    assert time.monotonic() - start < 1


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """SIGSTOP for as long as the block lasts."""
    process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: process.status() == psutil.STATUS_STOPPED, "the process stopped")
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _answers(server: ServedService) -> bool:
    try:
        return httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
