"""Ramps of candidates that go wrong, under load: what do the requests notice, and for how long?

    python benchmarks/candidate_ramps.py            100 ramps (half an hour)
    RAMPS=20 python benchmarks/candidate_ramps.py   fewer (7 minutes)

Three replicas of two workers on one store (PostgreSQL where it is installed, else SQLite) answer
requests of one row at a fixed rate each. In each cycle nothing happens for some seconds; then a
candidate begins at a tenth of the requests that raises, hangs, answers NaN or leaks memory, until
the runner withdraws it or, where it is still there, an operator does. Every fifth cycle mirrors all
requests to a good candidate instead. Half of the odd ones are odd from their first row on, half
only once they have answered requests. p99 is that of all requests with a candidate beside that of
all requests without. The rollback ends with the last worker that still had the candidate.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "support")]

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from cluster import Cluster, replicas  # noqa: E402 - the tests' own helpers
from live import Client  # noqa: E402
from postgres import running  # noqa: E402
from wire import Timings, post, send  # noqa: E402

from bento_selfheal.config.groups import HealingSettings  # noqa: E402
from bento_selfheal.packaging.build import package_model  # noqa: E402
from bento_selfheal.packaging.model_store import use_home  # noqa: E402
from bento_selfheal.packaging.training import Training  # noqa: E402
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows  # noqa: E402

SEED, RAMPS, WORKERS = 42, int(os.environ.get("RAMPS", "100")), 2
KINDS = tuple((kind, after) for after in (0.0, 1.5) for kind in ("raise", "hang", "nan", "leak"))
"""What a candidate does, and how many seconds after its first row: half of them are in order for
long enough to answer requests."""
RATE = 20.0
"""Requests a second of each replica."""
QUIET, WITH = 4.0, float(os.environ.get("WITH", "10"))
"""Seconds of a cycle without a candidate, and at most with one: a busy machine needs some to start
its process, and `worked` says in how many ramps it has."""
USUAL = {n: HealingSettings.model_fields[n].default for n in ("runner_nice", "heal_share")}
"""The runner's claim on the processor; the tests' replicas have a brisker one."""
WARM = 1.0
"""Seconds of a cycle that count for neither: the client starts."""


def packaged(name: str, kind: str = "", after: float = 0.0) -> str:
    """The article's model, or one that is odd as a candidate; its tag."""
    table = article_rows(2000, 0.0, np.random.default_rng(SEED))
    odd: dict[str, Any] = {}
    if kind:
        odd = {
            "builder": "odd_candidates:odd",
            "builder_args": {"features": 10, "kind": kind, "after": after},
        }
    return package_model(
        name, table.rows, table.labels, features=ARTICLE_FEATURES, training=Training(epochs=2),
        seed=SEED, **odd,
    ).tag  # fmt: skip


class EachWorker:
    """A connection to every worker of every replica."""

    def __init__(self, cluster: Cluster) -> None:
        self._clients: list[httpx.Client] = []
        for client in cluster.clients:
            found: dict[int, httpx.Client] = {}
            while len(found) < WORKERS:
                one = httpx.Client(base_url=client.base_url, timeout=30)
                found.setdefault(one.get("/status").json()["worker"]["pid"], one)
            self._clients += found.values()

    def gone(self, candidate: int, since: float) -> float:
        """Seconds from an instant until the last worker has let go of a candidate."""
        left = self._clients
        while left:
            time.sleep(0.1)  # each reading takes a worker some of its time
            left = [c for c in left if candidate in c.get("/status").json()["worker"]["candidates"]]
        return time.time() - since


class Watch:
    """Reads the candidates ten times a second, in all stretches alike."""

    def __init__(self, client: Client) -> None:
        self._client, self._end = client, threading.Event()
        self.newest: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._end.wait(0.1):
            self.newest = self._client.read("/candidates")

    def state(self, number: int) -> dict[str, Any]:
        """A candidate as it was last seen."""
        return next((dict(c) for c in self.newest if c["id"] == number), {"state": "running"})

    def finish(self) -> None:
        """Read no more."""
        self._end.set()
        self._thread.join()


class Load:
    """Requests to all replicas for one cycle, each answer with the instant at which it was due."""

    def __init__(self, cluster: Cluster, seconds: float) -> None:
        rows = article_rows(200, 0.0, np.random.default_rng(SEED)).rows
        requests = [post("/predict", json.dumps({"rows": [r]}).encode()) for r in rows.tolist()]
        self._timings: list[Timings] = []
        self._threads = [
            threading.Thread(
                target=lambda port=server.port: self._timings.append(
                    send(port, requests, rate=RATE, seconds=seconds, connections=4)
                )
            )
            for server in cluster.servers
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Wait for the last answer."""
        for thread in self._threads:
            thread.join()

    def between(self, begin: float, end: float) -> list[float]:
        """Answer times of the requests that were due in a stretch, in milliseconds."""
        return [
            ms for t in self._timings for ms, due in zip(t.times, t.due, strict=True)
            if begin <= t.began + due < end
        ]  # fmt: skip

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(t.failed for t in self._timings)


def cycle(cluster: Cluster, workers: EachWorker, tag: str, ramp: list[float]) -> dict[str, Any]:
    """One candidate, from its begin until the last worker has let go of it."""
    load, client = Load(cluster, WARM + QUIET + WITH), cluster.clients[0]
    watch = Watch(client)
    time.sleep(WARM + QUIET)
    began = time.time()
    body = {"tag": tag, "ramp": ramp, "min_labels": 1_000_000}
    number = client.ask("/candidates/begin", body)["id"]
    until, by = began + WITH - 1.5, "runner"
    while (shown := watch.state(number))["state"] == "running":
        if time.time() > until:
            answer = client.post("/candidates/withdraw", json={"tag": tag})
            by = "operator" if answer.status_code == 200 else by  # the runner was quicker
        time.sleep(0.1)
    rollback = workers.gone(number, shown["time"])
    end = time.time()
    watch.finish()
    load.finish()
    return {
        "tag": tag, "by": by, "reason": shown["reason"], "counts": shown["counts"],
        "failed": load.failed, "rollback": rollback, "with": load.between(began, end),
        "without": load.between(began - QUIET, began),
    }  # fmt: skip


@contextmanager
def _served(folder: Path) -> Iterator[tuple[Cluster, dict[Any, str]]]:
    """Three replicas whose model stores have all packages; tags by kind."""
    with ExitStack() as stack:
        home = folder / "home"
        use_home(home)
        path = [str(ROOT), str(ROOT / "benchmarks")]
        os.environ["PYTHONPATH"] = os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])
        tags: dict[Any, str] = {one: packaged(f"odd-{one[0]}-{one[1]:g}", *one) for one in KINDS}
        tags |= {"good": packaged("good"), "champion": packaged("champion")}
        url = f"sqlite:///{folder / 'selfheal.db'}"
        if shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
            url = stack.enter_context(running(folder / "postgres", durable=True)).database()
        cluster = stack.enter_context(
            replicas(home, tags["champion"], url, folder, workers=WORKERS, **USUAL)
        )
        for n in range(len(cluster.servers)):
            shutil.copytree(
                home / "models", folder / f"replica{n}" / "home" / "models", dirs_exist_ok=True
            )
        yield cluster, tags


def candidate_ramps() -> dict[str, Any]:
    """The figures of all ramps."""
    with tempfile.TemporaryDirectory() as name, _served(Path(name)) as (cluster, tags):
        workers, ramps, mirrored = EachWorker(cluster), [], []
        for n in range(RAMPS):
            ramps.append(cycle(cluster, workers, tags[KINDS[n % len(KINDS)]], [10, 100]))
            if n % 5 == 4:
                mirrored.append(cycle(cluster, workers, tags["good"], [0, 100]))
            print(n, {k: v for k, v in ramps[-1].items() if k not in ("with", "without")})
        store = "PostgreSQL" if cluster.store.shared else "SQLite"
    rollbacks = [one["rollback"] for one in ramps + mirrored]
    return {
        "ramps": RAMPS, "kinds": dict(Counter(one["tag"].split(":")[0] for one in ramps)),
        "store": store, "replicas": 3, "workers_each": WORKERS, "rate_each": RATE,
        "failed": sum(one["failed"] for one in ramps + mirrored),
        "requests_with": sum(len(one["with"]) for one in ramps),
        "answered_requests": sum(bool(one["counts"].get("served")) for one in ramps),
        "worked": sum(_worked(one["counts"]) for one in ramps),
        "by_runner": sum(one["by"] == "runner" for one in ramps),
        **_compared("", ramps), **_compared("mirrored_", mirrored),
        "rollback_s_median": round(float(np.median(rollbacks)), 3),
        "rollback_s_worst": round(max(rollbacks), 3),
        "cores": os.cpu_count(),
    }  # fmt: skip


def _worked(counts: dict[str, Any]) -> bool:
    """Whether the candidate was given a row before it went."""
    return any(counts.get(name) for name in ("answered", "failed", "late", "hung", "outgrew"))


def _compared(name: str, cycles: list[dict[str, Any]]) -> dict[str, Any]:
    """p99 with a candidate and without, in milliseconds, and their ratio."""
    if not cycles:
        return {}
    with_one, without = (
        float(np.percentile([ms for one in cycles for ms in one[which]], 99))
        for which in ("with", "without")
    )
    return {
        f"{name}p99_with_ms": round(with_one, 3), f"{name}p99_without_ms": round(without, 3),
        f"{name}p99_ratio": round(with_one / without, 3),
    }  # fmt: skip


ROWS: dict[str, Callable[[], dict[str, Any]]] = {"candidate ramps": candidate_ramps}

if __name__ == "__main__":
    print(json.dumps({name: row() for name, row in ROWS.items()}, indent=2))
