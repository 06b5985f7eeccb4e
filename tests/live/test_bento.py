"""Acceptance 7: the repository builds as a bento, and its tag serves and heals anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import bentoml
import pytest
from conftest import BRISK, ROOT, wait_for
from live import Client, Feeder, processes

from bento_selfheal.image import STATE
from bento_selfheal.packaging.model_store import delete_model, home_store, new_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

WORKERS = 1
USERS_BENTOFILE = """\
service: "service:SelfHealing"
python:
  lock_packages: false
"""


@pytest.fixture(scope="module", autouse=True)
def _with_bytecode() -> Iterator[None]:
    """Python compiles what it imports, as on most machines: that must not end in a bento."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


def build(project: Path, home: Path, package: Package) -> str:
    """Build a project's bento; its tag."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", str(project)],
        env={**os.environ, "BENTOML_HOME": str(home), "SELFHEAL_MODEL": package.tag},
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1].removeprefix("__tag__:")


def held(tag: str) -> set[str]:
    """The files of a bento's source, by their paths."""
    source = Path(bentoml.get(tag).path) / "src"
    return {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def bento(home: Path, package: Package) -> Iterator[str]:
    """The tag of a bento built from the repository with the default model name."""
    tag = build(ROOT, home, package)
    yield tag
    bentoml.delete(tag)


@pytest.fixture
def newer_model(package: Package) -> Iterator[str]:
    """A newer version under the packaged model's name, there after the bento was built."""
    name = package.tag.split(":")[0]
    old = home_store().get(package.tag)
    tag = f"{name}:newer"
    with new_model(tag, labels=dict(old.info.labels), metadata=dict(old.info.metadata)) as folder:
        for file in Path(old.path).iterdir():
            if file.name != "model.yaml":
                shutil.copy(file, folder / file.name)
    yield tag
    delete_model(tag)


@pytest.mark.slow
def test_a_bento_serves_by_its_tag_from_another_folder_and_heals(
    bento: str, newer_model: str, home: Path, package: Package, tmp_path: Path
) -> None:
    """It runs its own files with the model it was built with, and promotes what it healed."""
    name = package.tag.split(":")[0]
    env = {"SELFHEAL_STATE_DIR": str(tmp_path / "state"), "SELFHEAL_WORKERS": str(WORKERS),
           "SELFHEAL_MODEL": f"{name}:latest", **BRISK}  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    log = tmp_path / "server.log"
    with (
        ServedService(bento, home=home, log=log, cwd=elsewhere, env=env) as server,
        Client(server) as client,
    ):
        assert bento in server.last_words(200)
        wait_for(lambda: "model" in client.read("/status"), "the runner's first status")
        assert client.read("/status")["model"] == package.tag != newer_model
        feeder = Feeder(client, WORKERS)

        def promoted() -> bool:
            return bool(feeder.batch()["promotions"])

        wait_for(promoted, "a promotion", 120)
        feeder.batch()
        assert feeder.served_by > 1
        wait_for(lambda: feeder.batch() and feeder.accuracy > 0.7, "better answers", 120)
        serving = client.read("/status")["serving"]
        assert serving["tag"] in {str(m.tag) for m in home_store().list()}
    assert list(elsewhere.iterdir()) == []


@pytest.mark.slow
def test_a_bento_in_a_container_replaces_dead_processes(
    bento: str, home: Path, tmp_path: Path
) -> None:
    """Where BentoML knows that it is in a container it would start no process again; here the
    runner and a worker that were killed have successors, and predictions go on."""
    env = {"BENTOML_CONTAINERIZED": "true", "SELFHEAL_STATE_DIR": str(tmp_path / "state"),
           "SELFHEAL_WORKERS": "2"}  # fmt: skip
    with (
        ServedService(bento, home=home, log=tmp_path / "log", cwd=tmp_path, env=env) as server,
        Client(server) as client,
    ):
        client.all_serve(1, 2)
        for service, count in (("HealingRunner", 1), ("SelfHealing", 2)):
            first = processes(server, service)
            assert len(first) == count
            first[0].kill()
            wait_for(lambda s=service, f=first: set(processes(server, s)) - set(f), service)
        client.all_serve(1, 2)


@pytest.mark.parametrize("verb", ["build", "serve"])
def test_no_model_is_packaged(verb: str, tmp_path: Path) -> None:
    """In a fresh clone, `bentoml build` and `bentoml serve` say which model is missing, in which
    store, and what to do, rather than that it could not be fetched."""
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", verb],
        env={**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "COLUMNS": "1000"},
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"there is no packaged model selfheal-demo:latest in {tmp_path / 'home'}" in said
    assert "`bento-selfheal package-demo`" in said
    assert "Traceback" not in said


def test_a_bento_holds_what_it_needs_and_nothing_else(bento: str) -> None:
    """The whole package, whatever kind of file, and the user's service are inside; tests, state and
    caches are not, also after it has been served."""
    found = held(bento)
    package = {str(p.relative_to(ROOT)) for p in (ROOT / "bento_selfheal").rglob("*")
               if p.is_file() and "__pycache__" not in p.parts}  # fmt: skip
    assert {"service.py", *package} <= found
    strange = found - package - {"service.py", "bentofile.yaml", "pyproject.toml", "README.md"}
    assert strange == set()


def test_a_users_bento_holds_no_state_and_no_caches(
    home: Path, package: Package, tmp_path: Path
) -> None:
    """With our `.bentoignore` beside a bentofile of the user's own, one that includes everything,
    the bento holds his files and nothing that Python, tools or the running service left there."""
    for name in ("service.py", ".bentoignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bentofile.yaml").write_text(USERS_BENTOFILE)
    kept = {"helper.py", "assets/words.txt"}
    left = {"__pycache__/helper.cpython-311.pyc", "helper.pyc", ".mypy_cache/x.json",
            ".pytest_cache/CACHEDIR.TAG", ".venv/pyvenv.cfg", "state/selfheal.db",
            "state/threshold_config.json", "other/selfheal.db-wal", "bentoml/models/m/latest",
            "monitoring/selfheal/data/data.1.log"}  # fmt: skip
    for name in kept | left:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tag = build(tmp_path, home, package)
    try:
        assert held(tag) - {"bentofile.yaml", ".bentoignore"} == kept | {"service.py"}
    finally:
        bentoml.delete(tag)


def test_a_bento_asks_for_what_the_package_asks_for(bento: str) -> None:
    """Its requirements are those of pyproject.toml, and BentoML of the version that built it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {text.split(";")[0].strip() for text in project["dependencies"]}
    path = Path(bentoml.get(bento).path) / "env/python/requirements.txt"
    asked = set(path.read_text().split("\n")) - {""}
    assert asked - wanted == {f"bentoml=={bentoml.__version__}"}
    assert wanted <= asked


def test_a_bentos_image_has_no_compilers(bento: str) -> None:
    """It starts from slim Python, installs no system package, runs as a user of its own, and has a
    folder for the volume that this user may write to."""
    dockerfile = (Path(bentoml.get(bento).path) / "env/docker/Dockerfile").read_text()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"FROM python:{version}-slim AS" in dockerfile
    assert "apt-get" not in dockerfile
    assert f"-o bentoml -g bentoml {STATE}" in dockerfile
    assert re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE) == ["bentoml"]
