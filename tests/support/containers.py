"""Podman with a storage of the tests' own, a base image of Debian's packages, and containers.

No registry of images is asked: debootstrap makes the base. It and the layers of earlier builds stay
in a cache folder, so that a second run builds in seconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uv
from conftest import ROOT

from bento_selfheal.simulation.server import free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bento-selfheal-tests"
RUN = Path("/run/bento-selfheal-tests")
READY_SECONDS = 60
USER = 1034  # of BentoML's images
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
CONSTRAINTS = ROOT / "constraints.txt"
WHEELS = os.environ.get("PIP_FIND_LINKS", "")
PROGRAMS = ("podman", "runc", "debootstrap")
PACKAGES = "python3,python3-venv,ca-certificates"
CONTAINERS_CONF = """
[containers]
netns = "host"
default_ulimits = ["nofile=20000:20000", "nproc=4096:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{run}/tmp"
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{cache}/storage"
runroot = "{run}/storage"
"""
numbers = count(1)


class Podman:
    """The program, with configuration and storage of the tests' own."""

    def __init__(self) -> None:
        (CACHE / "storage").mkdir(parents=True, exist_ok=True)
        self.env = {**os.environ}
        for variable, text in (
            ("CONTAINERS_CONF", CONTAINERS_CONF),
            ("CONTAINERS_STORAGE_CONF", STORAGE_CONF),
        ):
            file = CACHE / variable.lower()
            file.write_text(text.format(cache=CACHE, run=RUN))
            self.env[variable] = str(file)

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """One command, to its end, whatever that is."""
        return subprocess.run(
            ["podman", *arguments], env=self.env, capture_output=True, text=True, timeout=seconds
        )

    def ask(self, *arguments: str, seconds: float = 60) -> str:
        """What a command that must succeed says."""
        done = self.run(*arguments, seconds=seconds)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def base_image(self) -> str:
        """Debian's Python, uv, this machine's certificates and wheels; made where it is missing."""
        files = (CERTIFICATES, CONSTRAINTS, Path(uv.find_uv_bin()))
        parts = [PACKAGES.encode(), WHEELS.encode(), *(file.read_bytes() for file in files)]
        stamp = hashlib.sha256(b"".join(parts)).hexdigest()[:12]
        name = f"localhost/selfheal-base:{stamp}"
        if self.run("image", "exists", name).returncode != 0:
            with tempfile.TemporaryDirectory() as folder:
                self._import_debian(Path(folder) / "root", name)
        return name

    def _import_debian(self, root: Path, name: str) -> None:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.skip(f"no base image: debootstrap says {made.stdout.splitlines()[-1:]}")
        shutil.copy(uv.find_uv_bin(), root / "usr/local/bin/uv")
        shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        shutil.copy(CONSTRAINTS, root / "etc")
        variables = {
            "SSL_CERT_FILE": CERTIFICATES,
            # The torch of the wheels, without CUDA, and not the newest there is.
            "UV_FIND_LINKS": WHEELS, "UV_CONSTRAINT": f"/etc/{CONSTRAINTS.name}",
        }  # fmt: skip
        changes = [f"--change=ENV {k}={v}" for k, v in variables.items() if v]
        archive = root.parent / "root.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        self.ask("import", "-q", *changes, str(archive), name, seconds=120)


def find_podman() -> Podman:
    """Podman, or a skip with the reason."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: `apt-get install {' '.join(PROGRAMS)}`")
    if os.getuid() != 0:
        pytest.skip("debootstrap makes a base image for root only: run the tests as root")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the base image has Python 3.11: run the tests with Python 3.11")
    return Podman()


def build(podman: Podman, image: str, home: Path, model: str) -> str:
    """What `examples/container/build.sh` printed; the image is there afterwards."""
    wheels = ["--opt", f"volume={WHEELS}:{WHEELS}:ro"] if WHEELS and Path(WHEELS).is_dir() else []
    done = subprocess.run(
        [str(ROOT / "examples/container/build.sh"), *wheels],
        env={
            **podman.env,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BENTOML_HOME": str(home), "SELFHEAL_MODEL": model,
            "BASE": podman.base_image(), "BACKEND": "podman", "IMAGE": image,
        },
        capture_output=True, text=True, timeout=480,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    podman.ask("image", "exists", image)
    return done.stdout


class Container:
    """One container of the image; it listens on a free port of 127.0.0.1.

    Args:
        podman: What runs it.
        command: Up to the options of `podman run`; `run.sh` is one.
        options: Further options, then the image where the command does not name it.
        env: Of the command.
    """

    def __init__(self, podman: Podman, command: list[str], *options: str, **env: str) -> None:
        self._podman = podman
        self.name = f"selfheal-test-{os.getpid()}-{next(numbers)}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._started = time.monotonic()
        done = subprocess.run(
            [
                *command, "-d", "--name", self.name, "--network", "host",
                "-e", "BENTOML_HOST=127.0.0.1", "-e", f"BENTOML_PORT={self.port}",
                "-e", "SELFHEAL_HEAL_SHARE=1", "-e", "SELFHEAL_RUNNER_NICE=0", *options,
            ],
            env={**podman.env, **env}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    def probe(self, path: str) -> int:
        """Status of a probe by a connection of its own; 0 where nobody answers within a second."""
        try:
            return httpx.get(self.url + path, timeout=1).status_code
        except httpx.HTTPError:
            return 0

    def await_ready(self) -> float:
        """Wait until it is ready; seconds since it was started."""
        while self.probe("/readyz") != 200:
            assert self.age < READY_SECONDS, self.log()[-3000:]
            time.sleep(0.05)
        return self.age

    def log(self) -> str:
        """What it printed."""
        done = self._podman.run("logs", self.name)
        return done.stdout + done.stderr

    @property
    def process(self) -> psutil.Process:
        """Its first process, as this machine sees it."""
        return psutil.Process(int(self.inspect()["State"]["Pid"]))

    def inspect(self) -> dict[str, Any]:
        """What podman knows of it."""
        known: dict[str, Any] = json.loads(self._podman.ask("inspect", self.name))[0]
        return known

    def kill(self) -> None:
        """As a machine that is switched off."""
        self._podman.ask("kill", "--signal", "KILL", self.name)
        self._podman.ask("wait", self.name)

    def stop(self, seconds: int = 10) -> float:
        """Ask it to end; how long that took."""
        start = time.monotonic()
        self._podman.ask("stop", "--time", str(seconds), self.name)
        return time.monotonic() - start

    def remove(self) -> None:
        """End it and forget it."""
        self._podman.run("rm", "--force", "--time", "0", self.name)


@contextmanager
def volume(podman: Podman) -> Iterator[str]:
    """A named volume for as long as the block lasts."""
    name = f"selfheal-test-{os.getpid()}-{next(numbers)}"
    podman.ask("volume", "create", name)
    try:
        yield name
    finally:
        podman.run("volume", "rm", "--force", name)
