"""What `make dist` builds: it installs anywhere, has nothing of the checkout, and lacks nothing."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tarfile
import zipfile
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


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(uv.find_uv_bin(), "build", "-q", "-o", folder, ROOT, cwd=folder, **UV)
    return folder


def tracked() -> set[str]:
    """Every file that git has, by its path."""
    return set(run("git", "ls-files", cwd=ROOT).split("\n")) - {""}


@pytest.mark.slow
def test_the_wheel_has_the_whole_package(dist: Path) -> None:
    """Every file of the package is in it, whatever its kind, and the license; nothing else is."""
    [wheel] = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in tracked() if name.startswith("bento_selfheal/")}
    assert {name for name in names if ".dist-info/" not in name} == package
    assert {f"bento_selfheal/{name}" for name in (
        "py.typed", "cli/project/templates/common/service.py.tmpl", "dashboard/index.html",
        "store/migrations/versions/0001_first.py",
    )} <= package  # fmt: skip
    [license] = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert zipfile.ZipFile(wheel).read(license) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.slow
def test_the_sdist_has_what_one_builds_and_tests_from(dist: Path) -> None:
    """Package, tests, documentation and license; nothing that git does not have."""
    [archive] = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert names - {"PKG-INFO"} <= tracked()
    assert {name for name in tracked() if name.startswith(("bento_selfheal/", "tests/"))} <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "docs/tutorial.md"} <= names


@pytest.mark.slow
def test_the_wheel_installs_without_a_network(dist: Path, tmp_path: Path) -> None:
    """Into a folder, beside dependencies that are there: the command begins a project from it."""
    [wheel] = dist.glob("*.whl")
    target = tmp_path / "target"
    run(uv.find_uv_bin(), "pip", "install", "-q", "--offline", "--no-deps", "--python",
        sys.executable, "--target", target, wheel, cwd=tmp_path)  # fmt: skip
    env = {"PYTHONPATH": str(target), "BENTOML_HOME": str(tmp_path / "home")}
    where = "import bento_selfheal; print(bento_selfheal.__file__)"
    assert str(target) in run(sys.executable, "-c", where, cwd=tmp_path, **env)
    [version] = (tmp_path / "target").glob("bento_selfheal-*.dist-info")
    tool = target / "bin" / "bento-selfheal"
    assert run(tool, "--version", cwd=tmp_path, **env).strip() in version.name
    assert "packaged churn:" in run(tool, "init", "churn", cwd=tmp_path, **env)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel(dist: Path, tmp_path: Path) -> None:
    """Installed alone, it packages, serves, answers and shows its page."""
    with_uv = functools.partial(run, uv.find_uv_bin(), cwd=tmp_path, **UV)  # pip takes a minute
    [wheel] = dist.glob("*.whl")
    with_uv("venv", "-q", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    install = ["pip", "install", "-q", "--python", python, "-c", ROOT / "constraints.txt"]
    # Else each process compiles what it imports anew where PYTHONDONTWRITEBYTECODE is set.
    with_uv(*install, "--compile-bytecode", wheel)
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
