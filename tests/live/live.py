"""What the tests on real servers share: a server for a module, workers, and labelled batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from conftest import ROOT, wait_for

from bento_selfheal.package import Package
from bento_selfheal.served import ServedService
from bento_selfheal.streams import ARTICLE_FEATURES, Table, article_rows

WIDTH = len(ARTICLE_FEATURES)
V14 = ARTICLE_FEATURES.index("V14")
DRIFT = 2.5


@contextmanager
def served(home: Path, package: Package, folder: Path, **settings: Any) -> Iterator[ServedService]:
    """A server for as long as the block lasts, on the same lines as the `serve` fixture."""
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(folder / "state")}
    env |= {f"SELFHEAL_{k.upper()}": str(v) for k, v in settings.items()}
    with ServedService(
        "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
    ) as server:
        yield server


class Client(httpx.Client):
    """A client of one server; each call that fails says why."""

    def __init__(self, server: ServedService) -> None:
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

    def workers(self) -> dict[int, dict[str, Any]]:
        """One look at one worker by a fresh connection: pid → what it says of itself."""
        with httpx.Client(base_url=self.base_url, timeout=30) as once:
            worker = once.get("/status").raise_for_status().json()["worker"]
        return {worker["pid"]: worker}


class Feeder:
    """Sends batches, labels them at once, and waits until the runner has learned them."""

    def __init__(self, client: Client, seed: int = 7) -> None:
        self._client = client
        self._generator = np.random.default_rng(seed)
        self.sent = 0

    def batch(
        self, drift: float = DRIFT, flipped: Callable[[Table], np.ndarray] | None = None
    ) -> dict[str, Any]:
        """One batch of 100 rows with its labels; the status after it."""
        self.send(drift, flipped)
        return self.settle()

    def send(
        self, drift: float = DRIFT, flipped: Callable[[Table], np.ndarray] | None = None
    ) -> list[str]:
        """One batch and its labels; the ids, without a wait for the runner."""
        table = article_rows(100, drift, self._generator)
        labels = np.asarray(table.labels)
        if flipped is not None:
            labels = np.where(flipped(table), 1 - labels, labels)
        ids = self._client.predict(table.rows.tolist())["prediction_ids"]
        answer = self._client.label(ids, labels.tolist())
        assert answer["accepted"] == len(ids)
        self.sent += len(ids)
        return list(ids)

    def settle(self) -> dict[str, Any]:
        """Wait until every label sent is learned; the status then."""

        def learned() -> dict[str, Any] | None:
            status = self._client.read("/status")
            joined = (status.get("labels") or {}).get("joined", -1)
            return status if joined >= self.sent and status["state"] != "HEALING" else None

        status: dict[str, Any] = wait_for(learned, f"{self.sent} labels learned", 60)
        return status


def processes(server: ServedService, service: str) -> list[psutil.Process]:
    """The server's processes that run one of its services."""
    found = []
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if service in process.cmdline():
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def since(start: float) -> float:
    return time.monotonic() - start
