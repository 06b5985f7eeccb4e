"""What the tests on real servers share: a server for a module, workers, and labelled batches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import psutil
from conftest import BRISK, ROOT, wait_for
from sqlalchemy import insert

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows
from bento_selfheal.store import SqlStore
from bento_selfheal.store import tables as t

WIDTH = len(ARTICLE_FEATURES)
V14 = ARTICLE_FEATURES.index("V14")
DRIFT = 2.2


class Running(Protocol):
    """A server here or in a container."""

    @property
    def url(self) -> str: ...

    @property
    def process(self) -> Any: ...


@contextmanager
def served(
    home: Path, package: Package, folder: Path, *, port: int | None = None, **settings: Any
) -> Iterator[ServedService]:
    """A server for as long as the block lasts, on the same lines as the `serve` fixture."""
    with ServedService(
        "service:SelfHealing",
        home=home,
        log=folder / "server.log",
        cwd=ROOT,
        env=environment(package, folder, **settings),
        port=port,
    ) as server:
        yield server


def environment(package: Package, folder: Path, **settings: Any) -> dict[str, str]:
    """Environment variables of a server whose state lies in a folder."""
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(folder / "state"), **BRISK}
    return env | {f"SELFHEAL_{k.upper()}": str(v) for k, v in settings.items()}


class _Started(ServedService):
    """A server that nobody waits for."""

    def _await_ready(self) -> None:
        pass


@contextmanager
def unready(
    home: Path, package: Package, folder: Path, why: str, **settings: Any
) -> Iterator[ServedService]:
    """A server that is not ready, as its log says and its probe; mend it in the block."""
    log = folder / "server.log"
    env = environment(package, folder, **settings)
    with _Started("service:SelfHealing", home=home, log=log, cwd=ROOT, env=env) as server:
        wait_for(lambda: why in log.read_text(errors="replace"), f"{why!r} in the log", 90)
        assert not ready(server)
        yield server


def ready(server: Running) -> bool:
    """Whether it says so itself; nobody may answer yet."""
    with suppress(httpx.TransportError):  # refused, or never answered
        return httpx.get(f"{server.url}/readyz", timeout=10).status_code == 200
    return False


class Client(httpx.Client):
    """A client of one server; each call that fails says why."""

    def __init__(self, server: Running) -> None:
        super().__init__(base_url=server.url, timeout=30)

    def read(self, path: str) -> Any:
        """GET as JSON."""
        response = self.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def ask(self, path: str, body: Any = None) -> Any:
        """POST as JSON."""
        response = self.post(path, json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        return answer

    def predict(self, rows: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("/predict", {"rows": rows})
        return answer

    def label(self, ids: list[str], labels: list[int], **more: Any) -> dict[str, Any]:
        """Give one label an id."""
        items = [
            {"prediction_id": i, "label": label, **more}
            for i, label in zip(ids, labels, strict=True)
        ]
        answer: dict[str, Any] = self.ask("/feedback", {"items": items})
        return answer

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Every event of a kind, oldest first."""
        return [e for e in self.read("/events?limit=10000") if e["kind"] == kind]

    def worker(self) -> dict[int, dict[str, Any]]:
        """One look at one worker by a fresh connection: what it says of itself."""
        with httpx.Client(base_url=self.base_url, headers=self.headers, timeout=30) as once:
            worker: dict[str, Any] = once.get("/status").raise_for_status().json()["worker"]
        return worker

    def all_serve(self, version: int, workers: int) -> dict[int, dict[str, Any]]:
        """Wait until every worker serves the version: pid → what it says of itself."""
        seen: dict[int, dict[str, Any]] = {}

        def everyone() -> bool:
            worker = self.worker()
            if worker["serving_version"] == version:
                seen[worker["pid"]] = worker
            return len(seen) == workers

        wait_for(everyone, f"{workers} workers on version {version}, so far {sorted(seen)}")
        return seen


def flood(state: Path, count: int) -> None:
    """Write so many events into a service's SQLite store, as a long life leaves them."""
    store = SqlStore(f"sqlite:///{state / 'selfheal.db'}")
    with store._db.write() as c:
        filler = {"kind": "drifting", "time": 1.0, "batch": 1}
        c.execute(
            insert(t.events), [{**filler, "detail": {"reason": f"no. {n}"}} for n in range(count)]
        )
    store.close()


class Feeder:
    """Sends batches, labels them at once, and waits until the runner has learned them.

    Args:
        client: Of the server.
        workers: How many must follow a promotion before the next batch.
        seed: Of the rows.
    """

    def __init__(self, client: Client, workers: int, seed: int = 7) -> None:
        self._client = client
        self._workers = workers
        self._version = 1
        self._generator = np.random.default_rng(seed)
        self.sent = 0
        self.accuracy = 0.0
        self.served_by = 0

    def batch(self, drift: float = DRIFT, *, flipped: bool = False) -> dict[str, Any]:
        """One batch of 100 rows with its labels; the status after it."""
        self.send(drift, flipped=flipped)
        return self.settle()

    def send(self, drift: float = DRIFT, *, flipped: bool = False) -> list[str]:
        """One batch and its labels, without a wait for the runner; the ids."""
        table = article_rows(100, drift, self._generator)
        labels = np.asarray(table.labels)
        labels = 1 - labels if flipped else labels
        answer = self._client.predict(table.rows.tolist())
        ids = answer["prediction_ids"]
        assert self._client.label(ids, labels.tolist())["accepted"] == len(ids)
        self.sent += len(ids)
        self.accuracy = float((np.asarray(answer["decisions"]) == labels).mean())
        self.served_by = answer["model_version"]
        return list(ids)

    def reconnect(self, client: Client) -> None:
        """Go on with a client of the next server."""
        self._client = client

    def settle(self) -> dict[str, Any]:
        """Wait until every label sent is learned; the status then."""

        def learned() -> dict[str, Any] | None:
            status = self._client.read("/status")
            joined = (status.get("labels") or {}).get("joined", -1)
            return status if joined >= self.sent and status["state"] != "HEALING" else None

        status: dict[str, Any] = wait_for(learned, f"{self.sent} labels learned", 120)
        if (version := status["serving"]["version"]) != self._version:
            self._client.all_serve(version, self._workers)
            self._version = version
        return status


def example(name: str, folder: Path, *arguments: str) -> list[float]:
    """The accuracies that an example prints at its end, run as its README says."""
    command = [sys.executable, str(ROOT / "examples" / name / "run.py"), *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=280, env=os.environ | BRISK
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return [float(x) for x in re.findall(r": +(\d\.\d+)$", done.stdout, flags=re.MULTILINE)]


def processes(server: Running, service: str) -> list[psutil.Process]:
    """The server's processes that run one of its services."""
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if service in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
