"""Commands that package, deploy and sign models, and suggest rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bento_selfheal.cli.app import (
    DEFAULT_TARGET,
    AsJson,
    Drop,
    Rules,
    Schema,
    Seed,
    Sensitive,
    app,
)
from bento_selfheal.cli.terminal import say
from bento_selfheal.errors import SettingsError

if TYPE_CHECKING:  # torch comes with it, which --help does not wait for
    from bento_selfheal.packaging.package import Package


@app.command()
def package_demo(seed: Seed = 42) -> None:
    """Package the demo's model into the model store of BENTOML_HOME."""
    from bento_selfheal.simulation.demo import package_demo as package

    say(Console(), f"packaged {package(seed).tag}")


@app.command()
def package(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with the training data.")],
    label: Annotated[str, typer.Option(help="Column with the label.")],
    name: Annotated[str, typer.Option(help="Name in the BentoML model store.")],
    sensitive: Sensitive = None,
    rule: Rules = None,
    drop: Drop = None,
    schema: Schema = None,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Train the default network on a table, calibrate it and package it into the model store.

    To package a torch network of your own, use Python: see docs/tutorial.md.
    """
    from bento_selfheal.simulation.streams import read_table
    from bento_selfheal.simulation.table import package_table

    table = read_table(file, label, drop or [], schema)
    made = package_table(name, table, seed, sensitive, rule or [])
    figures = {"f1": made.info.f1} if made.binary else {"recalls": made.recalls()}
    if as_json:
        typer.echo(json.dumps({"tag": made.tag, "accuracy": made.info.accuracy, **figures}))
        return
    say(Console(), f"read {file}: {'; '.join(table.notes)}")
    say(
        Console(),
        f"packaged {made.tag}: accuracy {made.info.accuracy:.3f}, {_beside_accuracy(made)} on "
        f"{len(made.reference_rows)} held-out rows\n"
        f"to serve it: SELFHEAL_MODEL={name}:latest bentoml serve {DEFAULT_TARGET}",
    )


@app.command()
def deploy(tag: Annotated[str, typer.Argument(help="Tag of a packaged model.")]) -> None:
    """Replace the model that serves by a newly packaged one, without a restart.

    It must have the same features and classes. The SELFHEAL_ settings of the service say where its
    store is: SELFHEAL_MODEL, and SELFHEAL_STATE_DIR or SELFHEAL_STORE_URL if it has one of these.
    """
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.deployment.replacing import replace_package

    settings = load_model_settings()
    exact, new = replace_package(settings, tag)
    say(Console(), f"{exact} takes over" if new else f"{exact} serves already")
    if exact.split(":")[0] != settings.model.split(":")[0]:
        # At its next start the service deploys its own SELFHEAL_MODEL again.
        say(
            Console(),
            f"{settings.model} serves again after a restart unless SELFHEAL_MODEL changes",
        )


@app.command()
def sign() -> None:
    """Sign the snapshots of the store with SELFHEAL_SIGNING_KEY, once, when the key is new.

    The SELFHEAL_ settings say which store. A snapshot that differs from what was promoted is
    refused.
    """
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.deployment.deploy import sign as sign_snapshots

    for tag in sign_snapshots(load_model_settings()):
        say(Console(), f"signed {tag}")


@app.command()
def suggest(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with the training data.")],
    label: Annotated[str, typer.Option(help="Column with the label.")],
    drop: Drop = None,
    schema: Schema = None,
    most: Annotated[int, typer.Option(min=1, help="Name at most this many rules.")] = 5,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Find the sensitive features and candidate rules in training data."""
    from bento_selfheal.cli.output import print_suggestion
    from bento_selfheal.simulation.streams import read_table
    from bento_selfheal.simulation.table import suggest_table

    found = suggest_table(read_table(file, label, drop or [], schema), most, seed)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_suggestion(found, Console())


def _beside_accuracy(made: Package) -> str:
    """F1 of two classes; of more the mean and the lowest of their recalls."""
    if made.binary:
        return f"F1 {made.info.f1:.3f}"
    recalls = made.recalls()
    lowest, mean = (
        min(recalls, key=lambda name: recalls[name]),
        sum(recalls.values()) / len(recalls),
    )
    return f"mean recall {mean:.3f} and lowest {recalls[lowest]:.3f} (class {lowest})"


def _name_value(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"{option}: {text!r} is not NAME=VALUE")
    return name.strip(), value.strip()
