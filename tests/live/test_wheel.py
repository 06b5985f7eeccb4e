"""The wheel in an environment of its own: nothing of the checkout, and everything is there."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uv
from conftest import ROOT, wait_for

from bento_selfheal.simulation.server import free_port

FILES = ["", "page.js", "charts.js", "page.css", "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css"]
UV = {"UV_FIND_LINKS": links} if (links := os.environ.get("PIP_FIND_LINKS")) else {}
"""What uv does not take from pip's variables."""


def run(*command: object, cwd: Path, seconds: float = 400, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=seconds,
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@contextmanager
def serving(python: Path, home: Path) -> Iterator[str]:
    """`bentoml serve` of the packaged default service, ready."""
    port = free_port()
    target = "bento_selfheal.default_service:SelfHealing"
    command = [python, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "BENTOML_HOME": str(home), "SELFHEAL_WORKERS": "1"}
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _ready(url), "the server to be ready", 90)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel(tmp_path: Path) -> None:
    """Built, installed alone, it packages, serves, answers and shows its page."""
    with_uv = functools.partial(run, uv.find_uv_bin(), cwd=tmp_path, **UV)  # pip takes a minute
    with_uv("build", "-q", "--wheel", "-o", tmp_path, ROOT)
    [wheel] = tmp_path.glob("*.whl")
    with_uv("venv", "-q", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    install = ["pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt"]
    with_uv(*install, wheel)
    home = tmp_path / "home"
    home.mkdir()
    tool = python.with_name("bento-selfheal")
    assert "packaged selfheal-demo:" in run(tool, "package-demo", cwd=home, BENTOML_HOME=str(home))
    assert '"model"' in run(tool, "doctor", "--json", cwd=home, BENTOML_HOME=str(home))
    with serving(python, home) as url:
        answer = httpx.post(f"{url}/predict", json={"rows": [[0.0] * 10]}, timeout=30)
        assert len(answer.json()["prediction_ids"]) == 1
        for name in FILES:
            assert httpx.get(f"{url}/selfheal/{name}", timeout=30).status_code == 200, name
