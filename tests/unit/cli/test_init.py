"""`bento-selfheal init`: what it writes, and what it refuses."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from bento_selfheal.cli.project import project as projects
from bento_selfheal.cli.project.command import ABOUT
from bento_selfheal.cli.project.project import Kind, new_project
from bento_selfheal.config.settings import Settings
from bento_selfheal.errors import SelfHealError
from bento_selfheal.packaging.package import Package

DEFAULT = re.compile(r"^# (\w+ = .*)$", re.MULTILINE)
COMMON = {"service.py", "selfheal.toml", "train.py", "test_service.py", "bentofile.yaml",
          ".bentoignore"}  # fmt: skip
EXAMPLES = {"tokens_file"}
"""Settings whose line shows an example, as the default is none."""


@pytest.mark.parametrize("kind", Kind)
def test_files_are_a_project(kind: Kind, home: Path, tmp_path: Path) -> None:
    """Each kind has its files, of which the command says what they are; ruff finds nothing in
    them, and the bento takes along what the service needs."""
    project = new_project(tmp_path / "Loans 2026", kind, None)
    project.write()
    files = {path.name for path in (tmp_path / "Loans 2026").iterdir()}
    assert files == COMMON | ({"network.py"} if kind is Kind.NETWORK else set())
    assert files <= set(ABOUT)
    assert project.name == "loans-2026"
    for check in (["check", "--select", "E,F,I,B,UP,SIM,RUF"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--isolated", "--line-length", "100", "."],
            cwd=project.folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    bentofile = yaml.safe_load(project.files["bentofile.yaml"])
    assert bentofile["name"] == "loans-2026"
    assert set(bentofile["include"]) == {"service.py", "selfheal.toml"} | (files & {"network.py"})


def test_settings_are_the_defaults(tmp_path: Path) -> None:
    """Each setting that the file shows exists, and the value shown is its default."""
    text = new_project(tmp_path / "churn", Kind.TABLE, None).files["selfheal.toml"]
    assert tomllib.loads(text) == {"model": "churn:latest"}
    shown = tomllib.loads("\n".join(DEFAULT.findall(text)))
    assert len(shown) > 8
    defaults = Settings().model_dump(mode="json")
    for name in shown.keys() - EXAMPLES:
        assert shown[name] == defaults[name], name
    assert set(shown) <= set(defaults)


def test_the_service_is_the_repositorys(tmp_path: Path) -> None:
    """It differs from `service.py` of the repository in where its settings lie and in words."""
    text = new_project(tmp_path / "churn", Kind.TABLE, None).files["service.py"]
    ours = (ROOT / "service.py").read_text().splitlines()
    more = [line for line in text.splitlines() if line and line not in ours]
    assert [line for line in ours if line and line not in text.splitlines()] == [
        line for line in ours if line.startswith(('"""', '    """A torch'))
    ]
    assert len(more) == 6
    assert 'with_name("selfheal.toml")' in text


def test_what_is_left_out_is_the_repositorys(tmp_path: Path) -> None:
    """A bento of a project leaves out what ours does, but for folders of the repository."""
    text = new_project(tmp_path / "churn", Kind.TABLE, None).files[".bentoignore"]
    patterns = [line for line in text.splitlines() if line and not line.startswith("#")]
    ours = (ROOT / ".bentoignore").read_text().partition("# Of this repository")[0]
    assert patterns == [line for line in ours.splitlines() if line and not line.startswith("#")]


def test_nothing_is_overwritten(home: Path, tmp_path: Path) -> None:
    """Where one of the files is there already, it is named, and none is written."""
    (tmp_path / "train.py").write_text("mine")
    with pytest.raises(SelfHealError, match=r"^train\.py: already there in .*init FOLDER$"):
        new_project(tmp_path, Kind.TABLE, "churn").write()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"train.py": "mine"}


def test_a_model_gets_no_new_version(package: Package, tmp_path: Path) -> None:
    """A service that serves the newest model of that name would take the example for it."""
    name = package.tag.split(":")[0]
    with pytest.raises(SelfHealError, match=rf"^{package.tag}: a model of this name .* --name"):
        new_project(tmp_path / "new", Kind.TABLE, name).write()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("folder", "name"), [("My Model", "my-model"), ("Kündigung", "kundigung"), ("_v1.2_", "v1.2")]
)
def test_the_folder_names_the_model(folder: str, name: str, tmp_path: Path) -> None:
    """In the letters that BentoML takes; a folder without any of these needs a name."""
    assert new_project(tmp_path / folder, Kind.TABLE, None).name == name
    with pytest.raises(SelfHealError, match="--name NAME"):
        new_project(tmp_path / "模型", Kind.TABLE, None)


@pytest.mark.parametrize("name", ["Churn", "a b", "-churn", "", "x" * 64])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    """It is refused before anything is written, with its value and the option."""
    with pytest.raises(SelfHealError, match=re.escape(f"name: {name!r} is none for a model")):
        new_project(tmp_path, Kind.TABLE, name)


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trees need XGBoost: without it nothing is written, and the line says how to get it."""
    monkeypatch.setattr(projects, "find_spec", lambda name: None)
    with pytest.raises(SelfHealError, match="kind trees: XGBoost is not installed; pip install"):
        new_project(tmp_path, Kind.TREES, "loans")


def test_training_that_fails(home: Path, tmp_path: Path) -> None:
    """The message says what is done, what is not, how to go on, and why it failed."""
    project = new_project(tmp_path / "churn", Kind.TABLE, None)
    project.write()
    (project.folder / "train.py").write_text("raise SystemExit('no disk left')")
    with pytest.raises(SelfHealError) as failed:
        project.train()
    assert re.fullmatch(
        r"the files are written, but train\.py failed; run it again with `python train\.py` in "
        r".*/churn:\nno disk left", str(failed.value),
    )  # fmt: skip
