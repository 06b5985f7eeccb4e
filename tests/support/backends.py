"""Real backends for telemetry, started by the tests: Prometheus, and arize-phoenix for traces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from conftest import ROOT

from bento_selfheal.simulation.server import free_port

EXAMPLE = ROOT / "examples" / "observability"
PROJECT = "selfheal"
PHOENIX = "arize-phoenix==20.26.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bento-selfheal"
READY_SECONDS = 60.0
INSTALL_SECONDS = 400.0


class Unavailable(Exception):
    """A backend that this machine cannot have; the message says why."""


@contextmanager
def running(
    command: list[str], ready: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[None]:
    """A program for as long as the block lasts; it begins when its address answers."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(ready):
            last = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"{command[0]} ended:\n{last}"
            assert time.monotonic() < deadline, f"{command[0]} is not ready:\n{last}"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


class Prometheus(httpx.Client):
    """Its HTTP API."""

    def vector(self, query: str) -> list[dict[str, Any]]:
        """An instant query: labels as `metric`, and `value`."""
        answer = self.get("/api/v1/query", params={"query": query})
        assert answer.status_code == 200, answer.text
        found = answer.json()["data"]["result"]
        return [{"metric": one["metric"], "value": float(one["value"][1])} for one in found]

    def value(self, query: str) -> float | None:
        """The one value of a query; None where there is none."""
        found = self.vector(query)
        assert len(found) <= 1, found
        return found[0]["value"] if found else None


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus on the example's configuration, that scrapes one server each second.

    Raises:
        Unavailable: It is not installed.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise Unavailable("Prometheus is not installed: `apt-get install prometheus`")
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((EXAMPLE / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(EXAMPLE / name) for name in config["rule_files"]]
    [scrape] = config["scrape_configs"]
    scrape["static_configs"] = [{"targets": [target.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        program, f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (
        running(command, f"{url}/-/ready", folder / "prometheus.log"),
        Prometheus(base_url=url, timeout=30) as client,
    ):
        yield client


class Phoenix(httpx.Client):
    """Its HTTP API."""

    def spans(self, project: str = PROJECT) -> list[dict[str, Any]]:
        """Every span of a project; none where it has not heard of the project."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            asked = {"limit": "1000", **({"cursor": cursor} if cursor else {})}
            answer = self.get(f"/v1/projects/{project}/spans", params=asked)
            if answer.status_code == 404:
                return []
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["data"]
            cursor = page["next_cursor"]
        return found


def sends_to(traces: Phoenix) -> dict[str, str]:
    """What makes a server send its traces there, soon."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": str(traces.base_url).rstrip("/"),
        "OTEL_METRICS_EXPORTER": "none",  # it takes no metrics
        "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={PROJECT}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


@contextmanager
def phoenix(folder: Path) -> Iterator[Phoenix]:
    """An arize-phoenix with an empty database.

    Raises:
        Unavailable: It cannot be installed here.
    """
    program = _installed_phoenix()
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    env = {
        "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port), "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false", "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (
        running([str(program), "serve"], f"{url}/healthz", folder / "phoenix.log", env),
        Phoenix(base_url=url, timeout=30) as client,
    ):
        yield client


def _installed_phoenix() -> Path:
    """Its program, in an environment of its own that outlives the tests."""
    home = CACHE / PHOENIX
    program, whole = home / "bin" / "phoenix", home / ".whole"
    if whole.exists():
        return program
    steps = [
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(home / "bin" / "pip"), "install", "--quiet", "--no-compile", PHOENIX],
    ]
    try:
        for step in steps:
            subprocess.run(
                step, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{PHOENIX} cannot be installed: {error.stderr[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{PHOENIX} cannot be installed: {error}") from error
    whole.touch()
    return program
