"""The operators' commands, as typed, against a running service."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import COMMAND
from conftest import wait_for
from live import Client, Feeder, flood, served

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService, free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the service's state."""
    return tmp_path_factory.mktemp("operate")


@pytest.fixture(scope="module")
def server(home: Path, package: Package, folder: Path) -> Iterator[ServedService]:
    """A service that has healed and promoted."""
    with served(home, package, folder, workers=1) as server, Client(server) as client:
        feeder = Feeder(client, workers=1)
        while feeder.batch()["promotions"] == 0:
            pass
        yield server


def run(url: str, *arguments: str, code: int = 0) -> str:
    """What a command prints; on failure what it says on stderr."""
    env = {**os.environ, "BENTO_SELFHEAL_URL": url, "COLUMNS": "200"}
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=env
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def read(url: str, *arguments: str) -> Any:
    return json.loads(run(url, *arguments, "--json"))


def test_reads(server: ServedService) -> None:
    """Tables tell people what --json tells machines."""
    status = read(server.url, "status")
    shown = run(server.url, "status", "--check")
    assert status["state"] in shown
    assert f"snapshot {status['serving']['version']}" in shown
    snapshots = read(server.url, "snapshots")
    [serving] = [s for s in snapshots if s["serving"]]
    assert any(
        str(serving["version"]) in line and "serving" in line
        for line in run(server.url, "snapshots").splitlines()
    )
    [newest] = read(server.url, "promotions", "--last", "1")
    assert newest["evidence"]
    assert newest["reason"] in run(server.url, "promotions")
    assert {"heal", "promote"} <= {e["kind"] for e in read(server.url, "events", "--last", "1000")}


def test_rollback(server: ServedService) -> None:
    """What is asked for serves; what serves already, or is not there, is refused with code 1."""
    assert "snapshot 1 serves" in run(server.url, "rollback", "1")
    with Client(server) as client:
        wait_for(lambda: client.worker()["serving_version"] == 1, "snapshot 1 to serve")
    assert "serving already" in run(server.url, "rollback", "1", code=1)
    assert "no snapshot 999" in run(server.url, "rollback", "999", code=1)
    run(server.url, "rollback", "0", code=2)


def test_commands(server: ServedService) -> None:
    """Pause, observe and resume are in force soon after; a source is forgotten."""
    with Client(server) as client:
        assert "requested: pause" in run(server.url, "pause")
        wait_for(lambda: client.read("/status")["paused"], "the pause")
        run(server.url, "observe")
        wait_for(lambda: client.read("/status")["mode"] == "observe", "observing")
        run(server.url, "resume")
        wait_for(lambda: client.read("/status")["mode"] == "heal", "the resumption")
        heals = client.read("/status")["heals"]
        assert read(server.url, "heal")["command"] == "heal"
        wait_for(lambda: client.read("/status")["heals"] > heals, "the heal")
        run(server.url, "forget", "desk")
        wait_for(lambda: client.events("quarantine"), "the source to be forgotten")


def test_newest_of_many(server: ServedService, folder: Path) -> None:
    """After thousands of events the newest are shown, newest last, as many as were asked for."""
    run(server.url, "pause")
    with Client(server) as client:
        wait_for(lambda: client.read("/status")["paused"], "the pause")
    flood(folder / "state", 2500)
    newest = read(server.url, "events")
    assert [e["detail"]["reason"] for e in newest] == [f"no. {n}" for n in range(2480, 2500)]
    many = read(server.url, "events", "--last", "2200")
    assert [e["detail"]["reason"] for e in many] == [f"no. {n}" for n in range(300, 2500)]
    assert len(read(server.url, "events", "--last", "100000")) > 2500


def test_nobody_there() -> None:
    """A service that does not answer is one clear line and code 1."""
    said = run(f"http://127.0.0.1:{free_port()}", "status", code=1)
    assert said.startswith("error: nothing answers at http://127.0.0.1:")
    assert said.count("\n") == 1
