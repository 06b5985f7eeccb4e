"""Commands that package, deploy and sign models, and suggest rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bento_selfheal.cli.app import app
from bento_selfheal.cli.options import DEFAULT_TARGET, Seed
from bento_selfheal.errors import SettingsError


@app.command()
def package_demo(seed: Seed = 42) -> None:
    """Put the demo's model into the model store of BENTOML_HOME."""
    from bento_selfheal.simulation.demo import package_demo as package

    Console().print(f"packaged {package(seed).tag}")


@app.command()
def package(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with the training data.")],
    label: Annotated[str, typer.Option(help="Column with the label.")],
    name: Annotated[str, typer.Option(help="Name in the BentoML model store.")],
    sensitive: Annotated[
        list[str] | None, typer.Option(help="Feature that FIDI watches; all when not given.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="'V14 < -1.5 -> CLASS'", help="Repeatable.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out.")] = None,
    seed: Seed = 42,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Train the default network on a table and put it into the model store, calibrated.

    A torch network of your own is packaged from Python: see docs/tutorial.md.
    """
    from bento_selfheal.simulation.streams import read_table
    from bento_selfheal.simulation.table import package_table

    made = package_table(name, read_table(file, label, drop or []), seed, sensitive, rule or [])
    if as_json:
        typer.echo(
            json.dumps({"tag": made.tag, "accuracy": made.info.accuracy, "f1": made.info.f1})
        )
        return
    Console().print(
        f"packaged {made.tag}: accuracy {made.info.accuracy:.3f}, F1 {made.info.f1:.3f} on "
        f"{len(made.reference_rows)} rows held out\n"
        f"serve it: SELFHEAL_MODEL={name}:latest bentoml serve {DEFAULT_TARGET}",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def deploy(tag: Annotated[str, typer.Argument(help="Tag of a packaged model.")]) -> None:
    """Let a freshly packaged model take over from the one that serves, without a restart.

    It must have the same features and classes; the SELFHEAL_ settings say where the store is.
    """
    from bento_selfheal.config.settings import load_settings
    from bento_selfheal.deployment.deploy import prepare
    from bento_selfheal.deployment.locations import exact_tag

    settings = load_settings().model_copy(update={"model": tag})
    prepare(settings)
    Console().print(f"{exact_tag(settings)} takes over")


@app.command()
def sign() -> None:
    """Sign the snapshots of the store with SELFHEAL_SIGNING_KEY: once, when the key is new.

    The SELFHEAL_ settings say which store; what is not what was promoted is refused, not signed.
    """
    from bento_selfheal.config.settings import load_settings
    from bento_selfheal.deployment.deploy import sign as sign_snapshots

    for tag in sign_snapshots(load_settings()):
        Console().print(f"signed {tag}", highlight=False, soft_wrap=True)


@app.command()
def suggest(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with the training data.")],
    label: Annotated[str, typer.Option(help="Column with the label.")],
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Rules to name at most.")] = 5,
    seed: Seed = 42,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Find the sensitive features and candidate rules in training data."""
    from bento_selfheal.cli.output import print_suggestion
    from bento_selfheal.simulation.streams import read_table
    from bento_selfheal.simulation.table import suggest_table

    found = suggest_table(read_table(file, label, drop or []), most, seed)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_suggestion(found, Console())


def _name_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set: {text!r} is not NAME=VALUE")
    return name.strip(), value.strip()
