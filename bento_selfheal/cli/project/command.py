"""The command that begins a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bento_selfheal.cli.app import app
from bento_selfheal.cli.project.project import Kind, Project, new_project
from bento_selfheal.cli.terminal import say

ABOUT = {
    "service.py": "the service: endpoints of your own go here",
    "selfheal.toml": "its settings, each with what it does",
    "train.py": "trains and packages the model: put your own data and model here",
    "network.py": "the torch network",
    "test_service.py": "trains, serves, predicts and labels, apart from everything else",
    "bentofile.yaml": "what `bentoml build` packs",
    ".bentoignore": "what it leaves out",
}
"""What each file is, in the order in which one reads them."""


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="Where to write; made where it is missing.")
    ] = Path("."),
    kind: Annotated[
        Kind,
        typer.Option(
            help="table: the default network, trained on a table. network: a torch network of your "
            "own. trees: boosted trees."
        ),
    ] = Kind.TABLE,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; that of the folder by default.")
    ] = None,
) -> None:
    """Write a project that serves a model, and train its example, so that it can be served.

    No file is ever overwritten, and no model of the same name gets a new version.
    """
    console, project = Console(), new_project(folder, kind, name)
    project.write()
    say(console, f"wrote to {folder.resolve()}")
    _say_rows(console, {file: ABOUT[file] for file in ABOUT if file in project.files})
    say(console, "\ntraining the example, as `python train.py` does …")
    say(console, project.train())
    say(console, f"\nnext{_where(folder)}")
    _say_rows(console, _steps(project))


def _steps(project: Project) -> dict[str, str]:
    return {
        "bentoml serve": "serves it: the API at http://localhost:3000, the dashboard at /selfheal",
        "pytest": "tests it (pip install pytest)",
        "bentoml build": f"packs service and model, for bentoml serve {project.name}:latest",
        "python train.py": "packages the model anew, once your own is in train.py",
    }


def _where(folder: Path) -> str:
    return "" if folder.resolve() == Path.cwd() else f", in {folder}"


def _say_rows(console: Console, rows: dict[str, str]) -> None:
    width = max(map(len, rows))
    for left, right in rows.items():
        say(console, f"  {left:<{width}}  {right}")
