"""Three replicas of the whole service, each with a model store of its own, on one PostgreSQL."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import REPLICAS, Cluster, replicas
from conftest import wait_for
from live import Feeder, processes
from postgres import Postgres

from bento_selfheal.packaging.package import Package


@pytest.fixture(scope="module")
def cluster(
    home: Path, package: Package, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Replicas on an empty database, every heal promoted."""
    settings = {"lease_seconds": 3, "gate": "always", "recipe": "article"}
    folder = tmp_path_factory.mktemp("replicas")
    with replicas(home, package.tag, postgres.database(), folder, **settings) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def feeder(cluster: Cluster) -> Feeder:
    """Counts all that the replicas are sent."""
    return Feeder(cluster.clients[0], workers=1)


@pytest.mark.slow
def test_database_away(cluster: Cluster, feeder: Feeder, postgres: Postgres) -> None:
    """While the database is gone predictions are answered and feedback is refused with 503 and a
    time to wait; when it is back all goes on, and nothing that was acknowledged is missing."""
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
    feeder.batch(0.0)  # nothing heals before the next test
    wait_for(lambda: cluster.store.status()["predicted_rows"] == 206, "every prediction was logged")


@pytest.mark.slow
def test_replicas(cluster: Cluster, feeder: Feeder) -> None:
    """One leads; what it promotes serves everywhere, verified, out of each replica's own model
    store; when it dies another one goes on where it stopped; when one is stopped past its lease and
    goes on, it writes nothing. No heal is done twice."""
    first = cluster.await_leader([0, 1, 2])
    others = [n for n in range(REPLICAS) if n != first]
    assert len({c.read("/status")["model"] for c in cluster.clients}) == 1
    assert [p.version for p in cluster.store.promotions()] == [1]

    # Predictions and labels by way of a replica that does not lead.
    feeder.reconnect(cluster.clients[others[0]])
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
