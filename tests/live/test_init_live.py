"""A stranger's first minutes: `bento-selfheal init`, and then only what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import COMMAND
from conftest import BRISK

from bento_selfheal.cli.project.project import Kind, new_project
from bento_selfheal.client import Client
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.wire.messages import FeedbackItem

ROW = {"age": 41, "plan": "basic", "visits": 3, "complaints": 2}


def run(*command: str, cwd: Path, home: Path) -> str:
    env = {**os.environ, **BRISK, "BENTOML_HOME": str(home), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, in which the command was called without anything else."""
    folder = tmp_path_factory.mktemp("begin") / "churn"
    folder.mkdir()
    printed = run(*COMMAND, "init", cwd=folder, home=folder.parent / "home")
    assert "packaged churn:" in printed
    for said in ("bentoml serve ", "bentoml build ", "pytest ", "python train.py "):
        assert f"\n  {said}" in printed
    return folder


@pytest.fixture(scope="module")
def client(project: Path) -> Iterator[Client]:
    """`bentoml serve` in that folder."""
    home = project.parent / "home"
    log = project.parent / "server.log"
    with (
        ServedService(".", home=home, log=log, cwd=project, env=BRISK) as server,
        Client(server.url) as client,
    ):
        yield client


@pytest.mark.slow
def test_it_serves(client: Client) -> None:
    """It answers a row by the names of its columns, and takes its label by the row's key."""
    answer = client.predict([ROW], keys=["customer-1"])
    assert answer.decisions[0] in (0, 1)
    assert client.feedback([FeedbackItem(key="customer-1", label=1)]).accepted == 1
    assert client.status()["model"].startswith("churn:")


@pytest.mark.slow
def test_it_builds(project: Path, tmp_path: Path) -> None:
    """The bento has the project's name and model, and serves from elsewhere."""
    home = project.parent / "home"
    printed = run(sys.executable, "-m", "bentoml", "build", cwd=project, home=home)
    found = re.search(r'Bento\(tag="(churn:\w+)"\)', printed)
    assert found, printed
    env = {**BRISK, "SELFHEAL_STATE_DIR": str(tmp_path / "state"), "SELFHEAL_WORKERS": "1"}
    with (
        ServedService(
            "churn:latest", home=home, log=tmp_path / "log", cwd=tmp_path, env=env
        ) as server,
        Client(server.url) as client,
    ):
        assert len(client.predict([ROW]).prediction_ids) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", Kind)
def test_its_test_passes(kind: Kind, home: Path, tmp_path: Path) -> None:
    """Of each kind: what `pytest` runs trains, serves, predicts and labels. It leaves nothing in
    the user's BENTOML_HOME, and neither the store nor the tokens of the settings matter."""
    new_project(tmp_path / "loans", kind, None).write()
    with (tmp_path / "loans" / "selfheal.toml").open("a") as settings:
        settings.write('store_url = "postgresql+psycopg://localhost:1/none"\n')
        settings.write('tokens_file = "gone.toml"\n')
    printed = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                  f"--basetemp={tmp_path / 'pt'}", cwd=tmp_path / "loans",
                  home=tmp_path / "home")  # fmt: skip
    assert "2 passed" in printed
    assert not (tmp_path / "home").exists()
