"""A project to begin with: a service, its settings, a model to train, and their test."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from bento_selfheal.errors import SelfHealError

SUFFIX = ".tmpl"
"""Of the templates, which no tool shall take for code of this package."""
HIDDEN = {"bentoignore": ".bentoignore"}
"""Templates whose files begin with a dot."""
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""What BentoML takes as the name of a model and of a bento."""


class Kind(StrEnum):
    """What the model of a project is."""

    TABLE = "table"
    """The default network, trained on a table."""
    NETWORK = "network"
    """A torch network of the user's own."""
    TREES = "trees"
    """Boosted trees."""


@dataclass(frozen=True)
class Project:
    """A folder with the files of a service, not written yet.

    Attributes:
        folder: Where they go.
        name: Of the model and the bento.
        files: The text of each file by its name.
    """

    folder: Path
    name: str
    files: Mapping[str, str]

    def write(self) -> None:
        """Write every file, or none where one is there already.

        Raises:
            SelfHealError: A file, or a model of this name, is there already.
        """
        if there := [name for name in self.files if (self.folder / name).exists()]:
            raise SelfHealError(
                f"{', '.join(there)}: already there in {self.folder.resolve()}, and init "
                "overwrites nothing; choose another folder: bento-selfheal init FOLDER"
            )
        self._check_store()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            with (self.folder / name).open("x") as file:
                file.write(text)

    def _check_store(self) -> None:
        """Refuse a name whose model serves somewhere: the example would be its newest version."""
        # Not above: commands that only ask a service load no BentoML.
        from bentoml.exceptions import NotFound

        from bento_selfheal.packaging.model_store import bentoml_home, find_model

        try:
            found = find_model(f"{self.name}:latest")
        except NotFound:
            return
        raise SelfHealError(
            f"{found.tag}: a model of this name is in {bentoml_home()} already, and the example "
            "would become its newest version; give another name: --name NAME"
        )

    def train(self) -> str:
        """Run `train.py`, which packages the example's model; what it printed.

        Raises:
            SelfHealError: It failed; the message ends with what it said.
        """
        done = subprocess.run(
            [sys.executable, "train.py"], cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode:
            said = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise SelfHealError(
                f"the files are written, but train.py failed; run it again with `python train.py` "
                f"in {self.folder.resolve()}:\n{said}"
            )
        return done.stdout.strip()


def new_project(folder: Path, kind: Kind, name: str | None) -> Project:
    """The files of a new project.

    Args:
        folder: Where they will go.
        kind: What the model is.
        name: Of the model; None takes the folder's.

    Raises:
        SelfHealError: The name is none for a model, or a library is missing.
    """
    if kind is Kind.TREES and find_spec("xgboost") is None:
        raise SelfHealError("kind trees: XGBoost is not installed; pip install xgboost")
    chosen = _name_of(folder) if name is None else name
    if not NAME.fullmatch(chosen):
        raise SelfHealError(
            f"name: {chosen!r} is none for a model; take small letters, digits, '-', '_' and '.': "
            "--name NAME"
        )
    values = {
        "name": chosen,
        "files": '  - "network.py"\n' if kind is Kind.NETWORK else "",
        "package": "bento-selfheal[xgboost]" if kind is Kind.TREES else "bento-selfheal",
    }
    return Project(folder, chosen, _texts("common", values) | _texts(kind, values))


def _name_of(folder: Path) -> str:
    letters = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore")
    return re.sub(r"[^a-z0-9._-]+", "-", letters.decode().lower())[:63].strip("-._")


def _texts(folder: str, values: Mapping[str, str]) -> dict[str, str]:
    """The files of one folder of templates, in the order of their names."""
    found = {}
    for template in files(__package__).joinpath("templates", folder).iterdir():
        name = template.name.removesuffix(SUFFIX)
        text = Template(template.read_text(encoding="utf-8")).substitute(values)
        found[HIDDEN.get(name, name)] = text
    return dict(sorted(found.items()))
