"""The image that `examples/container/build.sh` makes, run by `run.sh` and as it is composed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, wait_for
from containers import USER, Container, Podman, build, find_podman, volume
from live import Client, Feeder, processes
from postgres import Postgres

from bento_selfheal.packaging.package import Package

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = "localhost/selfheal-test:1"
RUN = str(ROOT / "examples/container/run.sh")
COMPOSE = ROOT / "examples/compose/compose.yaml"
NOT_READY_SECONDS = 8

Start = Callable[..., Container]


@pytest.fixture(scope="module")
def podman(home: Path, package: Package) -> Podman:
    """Podman with an image of this repository and the demo's model."""
    podman = find_podman()
    printed = build(podman, IMAGE, home, package.tag)
    assert "Successfully built Bento container" in printed
    return podman


@pytest.fixture
def start(podman: Podman) -> Iterator[Start]:
    """Start containers as `run.sh` does; all are gone after the test."""
    running: list[Container] = []

    def start(volume: str, *options: str, command: list[str] | None = None) -> Container:
        env = {"BACKEND": "podman", "IMAGE": IMAGE, "VOLUME": volume}
        running.append(Container(podman, command or [RUN], *options, **env))
        return running[-1]

    yield start
    for container in running:
        container.remove()


def promoted(feeder: Feeder) -> dict[str, Any]:
    """Feed drifted batches until a heal serves; the status then."""
    status: dict[str, Any] = {}
    wait_for(lambda: status.update(feeder.batch()) or status["promotions"], "a promotion", 120)
    assert status["serving"]["version"] > 1
    return status


def assert_confined(container: Container) -> None:
    """Nobody in it is root or holds a capability, and only volume and /tmp can be written to."""
    for process in (container.process, *container.process.children(recursive=True)):
        assert set(process.uids()) == {USER}
        status = Path(f"/proc/{process.pid}/status").read_text()
        for kind in ("Prm", "Eff", "Bnd"):
            assert re.search(rf"^Cap{kind}:\s+0+$", status, re.MULTILINE), status
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    mounts = Path(f"/proc/{container.process.pid}/mounts").read_text()
    assert re.search(r"^\S+ / overlay ro,", mounts, re.MULTILINE)


def test_heals_outlive_the_container(podman: Podman, start: Start) -> None:
    """Confined, it heals; alive and ready while its runner restarts; killed, its successor on the
    same volume serves the same snapshot, knows the old ids and heals on; it ends when asked to."""
    with volume(podman) as kept:
        first = start(kept, "-e", "SELFHEAL_WORKERS=1")
        first.await_ready()
        with Client(first) as client:
            assert client.predict([[0.0] * 10])["model_version"] == 1
            assert_confined(first)
            feeder = Feeder(client, workers=1)
            before = promoted(feeder)

            (runner,) = processes(first, "HealingRunner")
            runner.kill()
            while not {p.pid for p in processes(first, "HealingRunner")} - {runner.pid}:
                assert (first.probe("/livez"), first.probe("/readyz")) == (200, 200)
            before = feeder.batch()
            unlabelled = client.predict([[0.1] * 10, [0.2] * 10])["prediction_ids"]
            wait_for(lambda: client.worker()["queue_rows"] == 0, "the log written")
            served = client.predict([[0.0] * 10])
        first.kill()
        first.remove()

        second = start(kept, "-e", "SELFHEAL_WORKERS=1")
        second.await_ready()
        with Client(second) as client:
            again = client.predict([[0.0] * 10])
            assert again["model_version"] == served["model_version"] > 1
            assert again["probabilities"] == served["probabilities"]
            assert client.label(unlabelled, [0, 1])["accepted"] == 2
            feeder.reconnect(client)
            feeder.sent += 2
            wait_for(lambda: feeder.batch()["heals"] > before["heals"], "the next heal", 120)
        assert second.stop() < 10
        assert second.inspect()["State"]["ExitCode"] == 0
        assert "heals are lost with this container" not in second.log()


@pytest.mark.long  # test_probes does so in CI, without a container
def test_not_ready_before_an_adapter_verifies(podman: Podman, start: Start) -> None:
    """On a volume whose only adapter is damaged it does not get ready, and says why; with the
    adapter mended it does, without a restart."""
    with volume(podman) as kept:
        first = start(kept)
        first.await_ready()
        first.stop()
        folder = Path(podman.ask("volume", "inspect", "--format", "{{.Mountpoint}}", kept))
        [adapter] = folder.glob("models/*/*/adapter.safetensors")
        whole = adapter.read_bytes()
        adapter.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

        second = start(kept)
        wait_for(lambda: "no promotion in the log verifies" in second.log(), "the reason")
        while second.age < NOT_READY_SECONDS:
            assert second.probe("/readyz") != 200
        adapter.write_bytes(whole)
        second.await_ready()
        with Client(second) as client:
            assert client.predict([[0.0] * 10])["model_version"] == 1


def test_without_a_volume_it_says_so(podman: Podman, start: Start) -> None:
    """State that would go with the container is named in the log."""
    container = start("unused", IMAGE, command=["podman", "run"])
    container.await_ready()
    assert "heals are lost with this container" in container.log()


def test_as_composed(podman: Podman, start: Start, postgres: Postgres) -> None:
    """With the compose file's options on a real PostgreSQL: healthy by its own check, and a new
    container on an empty volume takes the promoted adapter from the database."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["selfheal"]
    url = postgres.database()
    with volume(podman) as one:
        first = start("", *options_of(service, one, url), IMAGE, command=["podman", "run"])
        first.await_ready()
        assert_confined(first)
        podman.ask("exec", first.name, *local(service["healthcheck"]["test"], first.port)[1:])
        with Client(first) as client:
            status = promoted(Feeder(client, workers=2))
        first.kill()
        first.remove()
    with volume(podman) as two:
        second = start("", *options_of(service, two, url), IMAGE, command=["podman", "run"])
        second.await_ready()
        with Client(second) as client:
            version = client.predict([[0.0] * 10])["model_version"]
        assert version == status["serving"]["version"]


def options_of(service: dict[str, Any], volume: str, url: str) -> list[str]:
    """A composed service as options of `podman run`, with another volume and store."""
    options = ["--user", service["user"]]
    options += ["--read-only"] if service["read_only"] else []
    options += [f"--cap-drop={capability}" for capability in service["cap_drop"]]
    options += [f"--security-opt={text.split(':')[0]}" for text in service["security_opt"]]
    options += [f"--tmpfs={folder}" for folder in service["tmpfs"]]
    [mounted] = service["volumes"]
    options += [f"--volume={volume}:{mounted.partition(':')[2]}"]
    given = {**service["environment"], "SELFHEAL_STORE_URL": url}
    # Nobody receives OTLP here.
    given = {k: v for k, v in given.items() if not k.startswith("OTEL_")}
    return options + [f"--env={name}={value}" for name, value in given.items()]


def local(command: list[str], port: int) -> list[str]:
    """A check of port 3000 as a check of the port that a test uses."""
    return [part.replace(":3000/", f":{port}/") for part in command]
