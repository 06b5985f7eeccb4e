"""A canary on three replicas, each with a model store of its own, on one PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cluster import REPLICAS, Cluster, replicas
from conftest import wait_for
from live import Client, Feeder
from postgres import Postgres

from bento_selfheal.packaging.package import Package

KEYS = range(100)


@pytest.fixture(scope="module")
def cluster(
    home: Path, package: Package, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Replicas that give three tenths of the keys to a canary, for as long as the test lasts."""
    settings = {"lease_seconds": 3, "canary": "30", "tuning__canary_labels": 100_000}
    folder = tmp_path_factory.mktemp("canary")
    with replicas(home, package.tag, postgres.database(), folder, **settings) as cluster:
        yield cluster


def answered_by(client: Client, keys: Sequence[int] = KEYS) -> dict[int, int]:
    """The version that answers each key."""
    row = [[0.1] * 10]
    return {
        key: client.ask("/predict", {"rows": row, "keys": [f"key-{key}"]})["model_version"]
        for key in keys
    }


@pytest.mark.slow
def test_a_canary_on_replicas(cluster: Cluster) -> None:
    """Each replica fetches the canary into its own model store and gives it the same keys, also
    after the replica that leads has died; an operator ends it everywhere within a second."""
    first = cluster.await_leader(list(range(REPLICAS)))
    others = [n for n in range(REPLICAS) if n != first]
    feeder = Feeder(cluster.clients[others[0]], workers=1)
    canary: dict[str, Any] | None = None
    while canary is None:
        feeder.send()
        canary = feeder.settle()["canary"]
        assert feeder.sent < 5000, "no canary yet"
    for client in cluster.clients:
        wait_for(lambda: client.read("/status")["worker"]["canary"], "each follows")  # noqa: B023
    answered = answered_by(cluster.clients[first])
    assert set(answered.values()) == {1, canary["version"]}
    assert 15 < list(answered.values()).count(canary["version"]) < 45
    assert [answered_by(cluster.clients[n]) for n in others] == [answered] * len(others)

    cluster.kill(first)
    second = cluster.await_leader(others, 10.0)
    feeder.reconnect(cluster.clients[second])
    feeder.send()
    status = feeder.settle()
    assert (status["canary"] or {}).get("version") == canary["version"]
    assert [answered_by(cluster.clients[n]) for n in others] == [answered] * len(others)

    third = next(n for n in others if n != second)
    own = [key for key, version in answered.items() if version == canary["version"]][:5]
    assert cluster.clients[third].ask("/rollback", {})["version"] == 1
    began = time.monotonic()
    while any(canary["version"] in answered_by(cluster.clients[n], own).values() for n in others):
        assert time.monotonic() - began < 1.0
    assert cluster.clients[second].read("/status")["worker"]["canary"] is None
