"""A runner that does not read what comes: a loud state with its reason, until it has read."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import wait_for
from live import Client, Feeder, processes, served

from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.reporting.backlog import BEHIND_SECONDS

pytestmark = pytest.mark.slow


def stop_between_writes(runner: psutil.Process, database: Path) -> None:
    """Stop a runner while it does not hold the lock without which nobody can write."""

    def stopped() -> bool:
        runner.send_signal(signal.SIGSTOP)
        with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as c:
            try:
                c.execute("begin immediate")
            except sqlite3.OperationalError:
                runner.send_signal(signal.SIGCONT)
                return False
        return True

    wait_for(stopped, "the runner is stopped")


def test_a_stopped_runner_is_seen(home: Path, package: Package, tmp_path: Path) -> None:
    """With the runner's process stopped, status and metrics say that labels are unread and why, and
    show no estimate beside them; once it runs again, that is over."""
    with served(home, package, tmp_path, workers=1) as server, Client(server) as client:
        feeder = Feeder(client, workers=1)
        runner = wait_for(lambda: processes(server, "HealingRunner"), "the runner")[0]
        wait_for(lambda: client.read("/status")["runner_alive"], "a leader")
        stop_between_writes(runner, tmp_path / "state" / "selfheal.db")
        try:
            feeder.send()

            def seen() -> dict[str, Any] | None:
                status: dict[str, Any] = client.read("/status")
                return status if status["behind"] else None

            assert client.read("/status")["unread"]["labels"] == 100
            status = wait_for(seen, "the state", BEHIND_SECONDS + 30)
            assert status["unread"]["labels"] == 100
            assert status["behind"]["reason"].startswith("no runner leads")
            assert status["estimate"] is None
            [age] = [
                float(line.split()[-1])
                for line in client.get("/metrics").text.splitlines()
                if line.startswith("selfheal_unread_age_seconds")
            ]
            assert age >= BEHIND_SECONDS
        finally:
            runner.send_signal(signal.SIGCONT)
        feeder.settle()
        status = wait_for(lambda: (s := client.read("/status")) and not s["behind"] and s, "calm")
        assert status["unread"]["labels"] == 0
        assert status["cpu"].keys() == {"share", "starved", "raised"}
