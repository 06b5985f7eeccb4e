"""The BentoML model store, as far as we need it.

BentoML swaps its container's store for the bento's own one inside an image; snapshots must
go to the store of ``BENTOML_HOME``, which is where a volume is mounted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bentoml
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.models import ModelStore


def bentoml_home() -> Path:
    """BentoML's home folder, as BentoML resolves it."""
    return Path(BentoMLContainer.bentoml_home.get())


def use_home(home: Path) -> None:
    """Make ``home`` the BENTOML_HOME of this process and of those that it starts.

    BentoML reads the variable once and keeps what it found, hence the second way.
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


@contextmanager
def new_model(
    tag: str, *, labels: Mapping[str, str], metadata: Mapping[str, Any]
) -> Iterator[Path]:
    """A folder whose files become the model ``tag`` when the block ends.

    Whatever lies under that tag already goes: a killed process may have left half of it.
    """
    name, version = tag.split(":")
    target = bentoml_home() / "models" / name / version
    shutil.rmtree(target, ignore_errors=True)
    with bentoml.models.create(
        tag, labels=dict(labels), metadata=dict(metadata), _model_store=home_store()
    ) as model:
        yield Path(model.path)


def delete_model(tag: str) -> None:
    """Remove a model from the home store; one that is gone already is no error."""
    name, version = tag.split(":")
    shutil.rmtree(bentoml_home() / "models" / name / version, ignore_errors=True)
