"""Replicas on one PostgreSQL: how soon another leads and all serve, and what the old one writes."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from cluster import Cluster, replicas  # noqa: E402 - the tests' own helpers
from conftest import wait_for  # noqa: E402
from live import Feeder, processes  # noqa: E402
from postgres import running  # noqa: E402

from bento_selfheal.core.records import Promotion  # noqa: E402

ROUNDS = 5


def failover(home: Path, tag: str, folder: Path) -> dict[str, Any]:
    """Leaders killed with -9, then stopped past their lease, while labels keep coming."""
    found: dict[str, list[float]] = {"new_leader_s": [], "stopped_new_leader_s": []}
    zombies = 0
    with running(folder / "postgres", durable=True) as server:
        settings = {"gate": "always", "recipe": "article"}
        with replicas(home, tag, server.database(), folder, **settings) as cluster:
            cluster.await_leader([0, 1, 2])
            for _ in range(ROUNDS):
                found["new_leader_s"].append(_kill_leader(cluster))
                seconds, wrote = _stop_leader(cluster)
                found["stopped_new_leader_s"].append(seconds)
                zombies += wrote
            spread = _spread(cluster)
            heals = cluster.heals()
    return {
        **{k: [round(v, 2) for v in vs] for k, vs in found.items()},
        "new_leader_worst_s": round(max(found["new_leader_s"]), 2),
        "double_heals": len(heals) - len(set(heals)),
        "heals": len(heals),
        "promotion_on_all_replicas_s": [round(v, 3) for v in spread],
        "promotion_on_all_replicas_worst_s": round(max(spread), 3),
        "promotion_on_all_replicas_median_s": round(median(spread), 3),
        "promotions_by_stopped_leaders": zombies,
    }


def _feed(cluster: Cluster, n: int, batches: int) -> None:
    feeder = Feeder(cluster.clients[n], workers=1, seed=int(time.time()))
    feeder.sent = cluster.store.status()["labels"]["joined"]
    for _ in range(batches):
        feeder.batch()


def _others(n: int) -> list[int]:
    return [m for m in range(3) if m != n]


def _kill_leader(cluster: Cluster) -> float:
    leader = cluster.await_leader([0, 1, 2])
    _feed(cluster, _others(leader)[0], 2)
    cluster.kill(leader)
    died = time.monotonic()
    cluster.await_leader(_others(leader), 30)
    seconds = time.monotonic() - died
    _feed(cluster, _others(leader)[0], 2)
    cluster.restart(leader)
    return seconds


def _stop_leader(cluster: Cluster) -> tuple[float, int]:
    """Seconds to a new leader, and promotions that the old one wrote after it went on."""
    leader = cluster.await_leader([0, 1, 2])
    log = cluster.servers[leader].log
    feeder = Feeder(cluster.clients[_others(leader)[0]], workers=1, seed=int(time.time()))
    feeder.send()
    [runner] = processes(cluster.servers[leader], "HealingRunner")
    runner.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        feeder.send()
        cluster.await_leader(_others(leader), 30)
        seconds = time.monotonic() - stopped
        _feed(cluster, _others(leader)[0], 1)
        before = len(log.read_bytes())
    finally:
        runner.send_signal(signal.SIGCONT)
    _feed(cluster, _others(leader)[0], 3)
    return seconds, log.read_bytes()[before:].count(b"promote at batch")


def _spread(cluster: Cluster) -> list[float]:
    """Seconds from a promotion's commit to the last replica that serves it."""
    seconds = []
    feeder = Feeder(cluster.clients[0], workers=1, seed=1)
    feeder.sent = cluster.store.status()["labels"]["joined"]
    for _ in range(10):
        feeder.send()
        feeder.settle()
        newest, since = wait_for(lambda: _served_by_all(cluster), "all serve the newest promotion")
        seconds.append(since - newest.time)
    return seconds


def _served_by_all(cluster: Cluster) -> tuple[Promotion, float] | None:
    """The newest promotion and when the last replica began to serve it; None until all do."""
    newest = cluster.store.newest_promotion()
    workers = [client.worker() for client in cluster.clients]
    if newest is None or any(w["serving_version"] != newest.version for w in workers):
        return None
    return newest, max(w["serving_since"] for w in workers)
