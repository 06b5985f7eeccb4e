"""Replicas of the whole service, each with a model store of its own, on one database."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from conftest import BRISK, ROOT, wait_for
from live import Client, processes

from bento_selfheal.simulation.server import ServedService
from bento_selfheal.store import SqlStore

REPLICAS = 3


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

    def restart(self, n: int) -> None:
        """Start a killed replica again, with the model store that it had."""
        self.servers[n] = self._start(n)
        self.clients[n] = Client(self.servers[n])

    def close(self) -> None:
        """Let go of clients and store; the servers are ended by their own handles."""
        for client in self.clients:
            client.close()
        self.store.close()

    def heals(self) -> list[int]:
        """Number of every heal that was written, in the order of the log."""
        return [e.detail["heal"] for e in self.store.events(limit=100_000) if e.kind == "heal"]

    def await_version(self, version: int, replicas: list[int]) -> None:
        """Wait until every one of these serves the version."""
        for n in replicas:
            self.clients[n].all_serve(version, 1)


@contextmanager
def replicas(home: Path, tag: str, url: str, folder: Path, **settings: Any) -> Iterator[Cluster]:
    """Replicas that start one after the other, the first on what may be an empty database.

    Args:
        home: BENTOML_HOME that the packaged model is copied from.
        tag: The packaged model.
        url: The shared store.
        folder: Where each replica gets a home, a state and a log.
        settings: Further settings.
    """
    name, version = tag.split(":")
    with ExitStack() as stack:

        def start(n: int) -> ServedService:
            own = folder / f"replica{n}"
            models = own / "home" / "models" / name
            if not models.exists():
                shutil.copytree(home / "models" / name / version, models / version)
                (models / "latest").write_text(version)
            env = {
                "SELFHEAL_MODEL": tag, "SELFHEAL_STORE_URL": url,
                "SELFHEAL_STATE_DIR": str(own / "state"), "SELFHEAL_WORKERS": "1", **BRISK,
            }  # fmt: skip
            env |= {f"SELFHEAL_{k.upper()}": str(v) for k, v in settings.items()}
            return stack.enter_context(
                ServedService(
                    "service:SelfHealing", home=own / "home", log=own / "log", cwd=ROOT, env=env
                )
            )

        cluster = Cluster(start, url)
        try:
            yield cluster
        finally:
            cluster.close()
