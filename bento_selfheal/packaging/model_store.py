"""The BentoML model store.

Inside an image, BentoML replaces its store by the bento's own. Snapshots must go to the store of
``BENTOML_HOME``, where a volume is mounted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import bentoml

from bento_selfheal.internals import BentoMLContainer, ModelStore

STALE_SECONDS = 86_400.0


def bentoml_home() -> Path:
    """BentoML's home folder, as BentoML resolves it."""
    return Path(BentoMLContainer.bentoml_home.get())


def use_home(home: Path) -> None:
    """Make ``home`` the BENTOML_HOME of this process and of those that it starts.

    BentoML reads the variable only once, so its container is set as well.
    """
    (home / "models").mkdir(parents=True, exist_ok=True)
    os.environ["BENTOML_HOME"] = str(home.resolve())
    BentoMLContainer.bentoml_home.set(str(home.resolve()))
    BentoMLContainer.model_store.set(home_store())


def home_store() -> ModelStore:
    """The model store under ``BENTOML_HOME``."""
    path = bentoml_home() / "models"
    path.mkdir(parents=True, exist_ok=True)
    return ModelStore(path)


def find_model(tag: str) -> Any:
    """A stored model: the bento's own where there is one, else the one under BENTOML_HOME.

    Raises:
        bentoml.exceptions.NotFound: Neither has it.
    """
    try:
        return bentoml.models.get(tag)
    except bentoml.exceptions.NotFound:
        return home_store().get(tag)


def model_folder(tag: str) -> Path:
    """Where the home store keeps a model, whether or not it exists."""
    name, version = tag.split(":")
    return bentoml_home() / "models" / name / version


@contextmanager
def new_model(
    tag: str, *, labels: Mapping[str, str], metadata: Mapping[str, Any]
) -> Iterator[Path]:
    """A folder whose files become the model ``tag`` when the block ends, all at once.

    It replaces a model of the same tag. BentoML itself copies into a folder that readers already
    see, and a half-written one, left by a killed process, keeps `bentoml serve` from starting. So
    the model is made in a separate store and moved into place.
    """
    name, version = tag.split(":")
    with _aside() as aside:
        with bentoml.models.create(
            tag, labels=dict(labels), metadata=dict(metadata), _model_store=ModelStore(aside)
        ) as model:
            yield Path(model.path)
        _sync(aside / name / version)
        delete_model(tag)
        target = model_folder(tag)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(aside / name / version, target)
        shutil.move(aside / name / "latest", target.parent / "latest")
        _sync_one(target.parent)  # a rename is on disk when its folder is


def _sync(folder: Path) -> None:
    """Flush a folder to disk: a promotion that survives a power cut needs its snapshot."""
    for path in (*folder.rglob("*"), folder):
        _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def delete_model(tag: str) -> None:
    """Remove a model from the home store at once; it need not exist."""
    with _aside() as aside, suppress(FileNotFoundError):
        shutil.move(model_folder(tag), aside / "model")


@contextmanager
def _aside() -> Iterator[Path]:
    """A folder that no reader looks into; gone afterwards.

    It lies on the file system of the home store; if only the store is mounted, a move copies.
    """
    root = bentoml_home() / "selfheal" / ".aside"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        now = os.stat(folder).st_mtime  # by the clock that the others were dated by
        for left in root.iterdir():  # by a killed process
            with suppress(FileNotFoundError):
                if now - left.stat().st_mtime > STALE_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)
        yield Path(folder)
