"""Load at half capacity with drift that comes and goes: memory, handles, threads and disk stay
within bounds."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from live import processes, served
from teller import Teller, compare
from wire import post, send

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import article_rows
from bento_selfheal.store import SqlStore

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.faults, pytest.mark.timeout(6000)]

WORKERS = 2
CONNECTIONS = 16
LOG_MEGABYTES = 20
DRIFTS = (0.0, 2.2, 0.0, 3.5)
WARM_SECONDS = 300.0
LONG_MINUTES = 30.0
GROWTH = 0.05
SHORT_GROWTH = 0.25
"""What a short run may grow by: buffers and pools of connections are still filling."""


@dataclass(frozen=True)
class Sample:
    """One process, or all of them, at one moment."""

    time: float
    megabytes: float
    handles: int
    threads: int


class Watch(threading.Thread):
    """Samples every process of a server, and the disk under its state."""

    def __init__(self, server: ServedService, state: Path, interval: float) -> None:
        super().__init__(daemon=True)
        self._server, self._state, self._interval = server, state, interval
        self.stopped = threading.Event()
        self.samples: dict[int, list[Sample]] = defaultdict(list)
        self.totals: list[Sample] = []
        """Of all together: chance spreads connections over the workers."""
        self.disk: list[float] = []

    def run(self) -> None:
        while not self.stopped.wait(self._interval):
            now, held, handles, threads = time.monotonic(), 0.0, 0, 0
            for service in ("SelfHealing", "HealingRunner"):
                for p in processes(self._server, service):
                    here = Sample(now, p.memory_info().rss / 1e6, p.num_fds(), p.num_threads())
                    self.samples[p.pid].append(here)
                    held += here.megabytes
                    handles += here.handles
                    threads += here.threads
            self.totals.append(Sample(now, held, handles, threads))
            files = [f.stat().st_size for f in self._state.rglob("*") if f.is_file()]
            self.disk.append(sum(files) / 1e6)

    def memory_growth(self, since: float) -> float:
        """The worst process's."""
        return max(growth(one, since, lambda s: s.megabytes) for one in self.samples.values())


def growth(samples: list[Sample], since: float, of: Callable[[Sample], float]) -> float:
    """The end over the beginning, less one."""
    later = [of(s) for s in samples if s.time >= since]
    fifth = max(len(later) // 5, 1)
    return round(median(later[-fifth:]) / median(later[:fifth]) - 1, 4)


def requests_of(drift: float, seed: int) -> list[bytes]:
    """Requests of one row each."""
    rows = article_rows(500, drift, np.random.default_rng(seed)).rows.tolist()
    return [post("/predict", json.dumps({"rows": [row]}).encode()) for row in rows]


def test_soak(
    home: Path, package: Package, tmp_path: Path, request: pytest.FixtureRequest,
    record_fault: Callable[..., None],
) -> None:  # fmt: skip
    """Nothing grows but what retention bounds, and every prediction is answered."""
    minutes = float(request.config.getoption("--soak"))
    seconds, piece = minutes * 60, min(60.0, minutes * 60 / 8)
    settings = {"workers": WORKERS, "log_megabytes": LOG_MEGABYTES, "buffer_rows": 2000}
    failed = answered = 0
    with served(home, package, tmp_path, **settings) as server:
        flat_out = send(server.port, requests_of(0.0, 0) * 20, connections=CONNECTIONS)
        rate = len(flat_out.times) / flat_out.seconds / 2
        watch = Watch(server, tmp_path / "state", max(seconds / 200, 1.0))
        watch.start()
        started = time.monotonic()
        with Teller(server.url, 4, pause=0.2) as teller:
            n = 0
            while time.monotonic() - started < seconds:
                sent = send(server.port, requests_of(DRIFTS[n % len(DRIFTS)], n), rate=rate,
                            seconds=piece, connections=CONNECTIONS)  # fmt: skip
                failed, answered, n = failed + sent.failed, answered + len(sent.times), n + 1
            told = teller.look()
        watch.stopped.set()
        watch.join(30)
        since = started + min(WARM_SECONDS, seconds / 3)
        with closing(SqlStore(f"sqlite:///{tmp_path / 'state' / 'selfheal.db'}")) as store:
            found, status, logged = compare(teller, store), store.status(), store.logged()[0]
    figures: dict[str, Any] = {
        "minutes": minutes, "requests_a_second": round(rate), "answered": answered + told.answered,
        "failed": failed + told.failed, "acknowledged": len(teller.acknowledged),
        "lost": found.lost, "heals": status["heals"], "promotions": status["promotions"],
        "unmatched": status["labels"]["unmatched"], "unread_requests": status["unread"]["requests"],
        "memory_growth": watch.memory_growth(since),
        "handles_growth": growth(watch.totals, since, lambda s: s.handles),
        "threads_growth": growth(watch.totals, since, lambda s: s.threads),
        "log_megabytes": round(logged / 1e6, 1), "log_megabytes_asked": LOG_MEGABYTES,
        "disk_megabytes_most": round(max(watch.disk), 1),
    }  # fmt: skip
    record_fault("soak", **figures)
    assert (figures["failed"], found.lost, found.twice) == (0, 0, 0)
    bound = GROWTH if minutes >= LONG_MINUTES else SHORT_GROWTH
    assert figures["memory_growth"] <= bound
    assert figures["handles_growth"] <= bound
    assert figures["threads_growth"] <= bound
    assert figures["heals"] > 3
    assert logged <= LOG_MEGABYTES * 1.2e6
