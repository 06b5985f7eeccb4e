"""Three replicas of the whole service, each with a model store of its own, on one PostgreSQL."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, wait_for
from live import Client, Feeder, processes
from postgres import Postgres

from bento_selfheal.package import Package
from bento_selfheal.served import ServedService
from bento_selfheal.store import SqlStore

REPLICAS = 3
LEASE = 3.0


class Cluster:
    """The replicas, their clients by number, and the store that they share."""

    def __init__(self, start: Callable[[int], ServedService], url: str) -> None:
        self._start = start
        self.store = SqlStore(url)
        self.servers = [start(n) for n in range(REPLICAS)]
        self.clients = [Client(server) for server in self.servers]

    def leader(self) -> int | None:
        """Number of the replica whose runner leads; None while none does."""
        owner = self.store.leader()
        if owner is None:
            return None
        pid = int(owner.split(":")[1])
        for n, server in enumerate(self.servers):
            if server.process.poll() is None and any(
                p.pid == pid for p in processes(server, "HealingRunner")
            ):
                return n
        return None

    def await_leader(self, among: list[int], seconds: float = 30.0) -> int:
        """Wait until one of these leads; its number."""
        wait_for(lambda: self.leader() in among, f"a leader among {among}", seconds)
        leader = self.leader()
        assert leader is not None
        return leader

    def kill(self, n: int) -> None:
        """As a machine that is switched off."""
        self.clients[n].close()
        self.servers[n].kill()

    def heals(self) -> list[int]:
        """Number of every heal that was written, in the order of the log."""
        return [e.detail["heal"] for e in self.store.events(limit=100_000) if e.kind == "heal"]

    def await_version(self, version: int, replicas: list[int]) -> None:
        """Wait until every one of these serves the version."""
        for n in replicas:
            self.clients[n].all_serve(version, 1)


@pytest.fixture
def cluster(home: Path, package: Package, postgres: Postgres, tmp_path: Path) -> Iterator[Cluster]:
    """Replicas that start all at once on an empty database."""
    url = postgres.database()
    name, version = package.tag.split(":")
    with ExitStack() as stack:

        def start(n: int) -> ServedService:
            own = tmp_path / f"replica{n}"
            models = own / "home" / "models" / name
            if not models.exists():
                shutil.copytree(home / "models" / name / version, models / version)
                (models / "latest").write_text(version)
            env = {
                "SELFHEAL_MODEL": package.tag, "SELFHEAL_STORE_URL": url,
                "SELFHEAL_STATE_DIR": str(own / "state"), "SELFHEAL_WORKERS": "1",
                "SELFHEAL_LEASE_SECONDS": str(LEASE), "SELFHEAL_GATE": "always",
                "SELFHEAL_RECIPE": "article",
            }  # fmt: skip
            return stack.enter_context(
                ServedService(
                    "service:SelfHealing", home=own / "home", log=own / "log", cwd=ROOT, env=env
                )
            )

        cluster = Cluster(start, url)
        yield cluster
        for client in cluster.clients:
            client.close()
        cluster.store.close()


def test_replicas(cluster: Cluster) -> None:
    """One leads; what it promotes serves everywhere, verified, out of each replica's own model
    store; when it dies another one goes on where it stopped; when one is stopped past its lease and
    goes on, it writes nothing. No heal is done twice."""
    first = cluster.await_leader([0, 1, 2])
    others = [n for n in range(REPLICAS) if n != first]
    assert len({c.read("/status")["model"] for c in cluster.clients}) == 1
    assert [p.version for p in cluster.store.promotions()] == [1]

    # Predictions and labels by way of a replica that does not lead.
    feeder = Feeder(cluster.clients[others[0]], workers=1)
    status: dict[str, Any] = {}
    while not status.get("promotions"):
        status = feeder.batch()
    version = status["serving"]["version"]
    cluster.await_version(version, [0, 1, 2])
    tag = cluster.store.snapshots()[-1].tag
    for server in cluster.servers:
        name, _, rest = tag.partition(":")
        assert (
            server.log.parent / "home" / "models" / name / rest / "adapter.safetensors"
        ).exists()

    cluster.kill(first)
    second = cluster.await_leader(others, 10.0)
    feeder.reconnect(cluster.clients[second])
    before = feeder.batch()
    assert before["heals"] > status["heals"]
    assert before["labels"]["joined"] == feeder.sent
    cluster.await_version(before["serving"]["version"], others)

    # The second leader stands still past its lease, with labels on their way to it.
    third = next(n for n in others if n != second)
    [runner] = processes(cluster.servers[second], "HealingRunner")
    runner.send_signal(signal.SIGSTOP)
    try:
        feeder.reconnect(cluster.clients[third])
        feeder.send()
        cluster.await_leader([third], 10.0)
        feeder.settle()
        seen = len(cluster.store.promotions())
    finally:
        runner.send_signal(signal.SIGCONT)
    for _ in range(3):
        feeder.batch()
    heals = cluster.heals()
    assert heals == sorted(set(heals))
    assert len(cluster.store.promotions()) > seen
    assert cluster.leader() == third
    versions = [p.version for p in cluster.store.promotions() if p.kind.value == "promote"]
    assert versions == sorted(set(versions))


def test_database_away(cluster: Cluster, postgres: Postgres) -> None:
    """While the database is gone predictions are answered and feedback is refused with 503 and a
    time to wait; when it is back all goes on, and nothing that was acknowledged is missing."""
    feeder = Feeder(cluster.clients[0], workers=1)
    ids = feeder.send(0.0)
    feeder.settle()
    postgres.stop()
    try:
        client = cluster.clients[1]
        for _ in range(5):
            assert len(client.predict([[0.1] * 10])["decisions"]) == 1
        refused = client.post("/feedback", json={"items": [{"prediction_id": ids[0], "label": 1}]})
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
    finally:
        postgres.start()

    def again() -> bool:
        try:
            return cluster.clients[1].get("/status").status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(again, "the store is back")
    cluster.await_leader([0, 1, 2])
    cluster.clients[1].predict([[0.2] * 10])
    feeder.batch()
    wait_for(lambda: cluster.store.status()["predicted_rows"] == 206, "every prediction was logged")
