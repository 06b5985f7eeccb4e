"""The container's image, and what is said of state that goes with a container."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bento_selfheal.config.settings import Settings
from bento_selfheal.core.importing import import_function
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.image import container_image, goes_with_container
from bento_selfheal.packaging.package import Package
from bento_selfheal.serving.application import SelfHealingService


def test_another_base() -> None:
    """The base is a setting; nothing is installed on it."""
    image = container_image(Settings(base_image="registry.example/python:3.11"))
    assert image.base_image == "registry.example/python:3.11"
    assert [command for command in image.commands if "apt-get" in command] == []


def test_what_goes_with_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container only another file system than the root's outlives it; elsewhere all does."""
    assert not goes_with_container(Path("/"))
    monkeypatch.setattr("bento_selfheal.image.IN_CONTAINER", True)
    assert goes_with_container(Path("/"))
    assert not goes_with_container(Path("/proc"))


def test_state_on_no_volume_is_warned_of(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The log names each folder and what to do; with a database there is nothing to lose."""
    monkeypatch.setattr("bento_selfheal.deployment.deploy.goes_with_container", lambda folder: True)
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    with caplog.at_level(logging.WARNING):
        prepare(settings)
    assert str(tmp_path / "state") in caplog.text
    assert "BENTOML_HOME=/state" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        prepare(settings.model_copy(update={"store_url": f"sqlite:///{tmp_path / 'b.db'}"}))
    assert "volume" not in caplog.text


def test_modules_of_a_served_bento(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's builder in a bento is imported after BentoML took the folder off the path."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "users_builder.py").write_text("def build(): return 7")
    served = SelfHealingService(name="a", config={}, inner=object)
    served.bento = SimpleNamespace(path=str(tmp_path), info=SimpleNamespace(all_models=[]))
    assert import_function("users_builder:build")() == 7


def test_a_served_bento_stays_clean(tmp_path: Path) -> None:
    """What Python compiled in a bento is removed, and neither this process nor one that it starts
    compiles anything there again."""
    (tmp_path / "part.py").write_text("")
    code = (
        "import subprocess, sys; from pathlib import Path\n"
        "from bento_selfheal.image import keep_clean\n"
        "import part\n"
        "cache = Path('__pycache__'); before = cache.is_dir()\n"
        "keep_clean(Path())\n"
        "del sys.modules['part']; import part\n"
        "subprocess.run([sys.executable, '-c', 'import part'], check=True)\n"
        "print(before, cache.exists())\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "False"], done.stderr
