"""Commands that try healing out: on the demo, on a user's stream, on a log, on the article."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from ..config import Settings
from ..errors import SettingsError
from . import app

Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Tries = Annotated[
    list[str] | None,
    typer.Option("--try", metavar="NAME=VALUE,…", help="Settings to run beside; repeatable."),
]
DEFAULT_TARGET = "bento_selfheal.default_service:SelfHealing"


@app.command()
def demo(
    drift: Annotated[float, typer.Option(help="How far V14 of normal rows moves.")] = 2.2,
    batches: Annotated[int, typer.Option(min=2, help="Batches of 100 rows.")] = 40,
    clean: Annotated[int, typer.Option(min=0, help="Batches before the drift.")] = 5,
    seed: Seed = 42,
    home: Annotated[Path, typer.Option(help="BENTOML_HOME of the demo; made anew.")] = Path(
        ".demo"
    ),
) -> None:
    """Serve the article's classifier, let its world drift, watch it heal."""
    from ..modelstore import use_home
    from ..show import Show, demo_stream, package_demo, print_summary, run_show

    console = Console()
    shutil.rmtree(home, ignore_errors=True)
    use_home(home)
    console.print("training and packaging the article's fraud classifier …")
    package = package_demo(seed)
    target, cwd = _service_here()
    summary = run_show(
        Show(package, demo_stream(batches, clean, drift, seed), home.resolve()),
        console,
        target,
        cwd,
    )
    print_summary(summary, console, tail=10)
    console.print(
        f"\nwhere to look next\n"
        f"  BENTOML_HOME={home} bentoml models list        the snapshots of every heal\n"
        f"  {home}/server.log                              what the server said\n"
        f"  {home}/selfheal/                               the store and threshold_config.json\n"
        f"  make serve                                    the same service, staying up\n",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def package_demo(seed: Seed = 42) -> None:
    """Put the demo's model into the model store of BENTOML_HOME."""
    from ..show import package_demo as package

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
    from ..show import package_table
    from ..streams import read_table

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
def replay(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet, rows in time order.")],
    label: Annotated[str, typer.Option(help="Column with the label: two classes.")],
    delay: Annotated[int, typer.Option(min=0, help="Rows between a row and its label.")] = 100,
    train_fraction: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Share of the rows to train on, the first.")
    ] = 0.1,
    sensitive: Annotated[
        list[str] | None, typer.Option(help="Feature that FIDI watches; all when not given.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Stream at most so many rows; 0: all.")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Print one batch in so many.")] = 10,
    recipe: Annotated[str, typer.Option(help="replay or article")] = "replay",
    seed: Seed = 42,
    home: Annotated[
        Path | None, typer.Option(help="BENTOML_HOME to keep; a temporary one when not given.")
    ] = None,
) -> None:
    """Train on the first part of your own stream, serve it, and stream the rest."""
    from ..modelstore import use_home
    from ..show import Show, package_table, print_summary, run_show, table_stream
    from ..streams import read_table

    console = Console()
    temporary = home is None
    folder = Path(tempfile.mkdtemp(prefix="selfheal-replay-")) if home is None else home
    try:
        table = read_table(file, label, drop or [])
        use_home(folder)
        train, rest = table.split(train_fraction)
        console.print(f"training on {len(train.rows)} rows, streaming {len(rest.rows)} …")
        package = package_table("replay", train, seed, sensitive)
        stream = table_stream(rest, package, delay, limit)
        summary = run_show(
            Show(package, stream, folder.resolve(), every, {"SELFHEAL_RECIPE": recipe}),
            console,
            DEFAULT_TARGET,
        )
        print_summary(summary, console, tail=50)
    finally:
        if temporary:
            shutil.rmtree(folder, ignore_errors=True)


@app.command()
def backtest(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet, rows in time order.")],
    label: Annotated[str, typer.Option(help="Column with the label: two classes.")],
    train_fraction: Annotated[
        float, typer.Option(min=0.001, max=0.999, help="Share of the rows to train on, the first.")
    ] = 0.1,
    delay: Annotated[int, typer.Option(min=0, help="Rows between a row and its label.")] = 100,
    sensitive: Annotated[
        list[str] | None, typer.Option(help="Feature that FIDI watches; all when not given.")
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Column to leave out.")] = None,
    try_: Tries = None,
    seed: Seed = 42,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Stream a file through the healing pipeline offline, with no server.

    Healing follows the SELFHEAL_ settings, as the service does; with --try, others run beside
    them, and it is said which would have been better and by how much.
    """
    from ..config import load_settings
    from ..modelstore import use_home
    from ..render import print_backtest
    from ..show import backtest_table
    from ..streams import read_table

    table = read_table(file, label, drop or [])
    with tempfile.TemporaryDirectory(prefix="selfheal-backtest-") as home:
        use_home(Path(home))
        settings = load_settings()
        tries = [_changed(settings, text) for text in try_ or []]
        result = backtest_table(table, settings, train_fraction, delay, seed, sensitive, tries)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        print_backtest(result, Console())


@app.command()
def backtest_log(
    try_: Tries = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Run the store's own log through the healing pipeline again, offline.

    The SELFHEAL_ settings say which store, and how to heal; what --try names runs beside them.
    """
    from ..config import load_settings
    from ..render import print_backtest
    from ..show import backtest_log as run

    settings = load_settings()
    result = run(settings, [_changed(settings, text) for text in try_ or []])
    if as_json:
        typer.echo(json.dumps(result))
    else:
        print_backtest(result, Console())


@app.command()
def deploy(tag: Annotated[str, typer.Argument(help="Tag of a packaged model.")]) -> None:
    """Let a freshly packaged model take over from the one that serves, without a restart.

    It must have the same features and classes; the SELFHEAL_ settings say where the store is.
    """
    from ..config import load_settings
    from ..deploy import exact_tag, prepare

    settings = load_settings().model_copy(update={"model": tag})
    prepare(settings)
    Console().print(f"{exact_tag(settings)} takes over")


@app.command()
def sign() -> None:
    """Sign the snapshots of the store with SELFHEAL_SIGNING_KEY: once, when the key is new.

    The SELFHEAL_ settings say which store; what is not what was promoted is refused, not signed.
    """
    from ..config import load_settings
    from ..deploy import sign as sign_snapshots

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
    from ..render import print_suggestion
    from ..show import suggest_table
    from ..streams import read_table

    found = suggest_table(read_table(file, label, drop or []), most, seed)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        print_suggestion(found, Console())


@app.command()
def reproduce(
    seed: Seed = 42,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a parameter.")
    ] = None,
    ablation: Annotated[
        str | None, typer.Option(help="One of the article's iterations, v1 to v7.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Run the article's experiment: its table, its log by batch, its registry."""
    from ..experiment import experiment_settings, run_experiment
    from ..render import print_experiment

    changes = dict(_name_value(text) for text in set_ or [])
    result = run_experiment(experiment_settings(seed, ablation, changes))
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        print_experiment(result, Console())


def _changed(settings: Settings, text: str) -> Settings:
    """Settings with the changes of one --try."""
    from ..config import describe

    changes = dict(_name_value(part) for part in text.split(","))
    try:
        return Settings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        raise SettingsError(f"--try: {describe(error)}") from error


def _name_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set: {text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def _service_here() -> tuple[str, Path | None]:
    """The user's own service.py where there is one, else the packaged default."""
    if Path("service.py").is_file():
        return "service:SelfHealing", Path.cwd()
    return DEFAULT_TARGET, None
