"""Commands that try out healing: the demo, a user's stream, a log, the article's experiment."""

from __future__ import annotations

import difflib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from bento_selfheal.cli.app import (
    DEFAULT_TARGET,
    AsJson,
    Drop,
    Review,
    ReviewBudget,
    ReviewExplored,
    ReviewShare,
    Rules,
    Schema,
    Seed,
    Sensitive,
    TrainFraction,
    Tries,
    Unreported,
    app,
)
from bento_selfheal.cli.models import _name_value
from bento_selfheal.cli.terminal import say
from bento_selfheal.config.groups import Tuning
from bento_selfheal.config.settings import Settings
from bento_selfheal.core.text import counted
from bento_selfheal.errors import SelfHealError, SettingsError


@app.command()
def demo(
    drift: Annotated[float, typer.Option(help="How far V14 of normal rows moves.")] = 2.2,
    batches: Annotated[int, typer.Option(min=2, help="Batches of 100 rows.")] = 40,
    clean: Annotated[int, typer.Option(min=0, help="Batches before the drift.")] = 5,
    seed: Seed = 42,
    home: Annotated[Path, typer.Option(help="BENTOML_HOME of the demo; emptied first.")] = Path(
        ".demo"
    ),
) -> None:
    """Serve a fraud classifier, let the fraud pattern move and watch it heal."""
    from bento_selfheal.cli.live import Demo, print_summary, run_demo
    from bento_selfheal.packaging.model_store import use_home
    from bento_selfheal.simulation.demo import demo_stream, package_demo

    console = Console()
    shutil.rmtree(home, ignore_errors=True)
    use_home(home)
    say(console, "training and packaging the fraud classifier …")
    package = package_demo(seed)
    target, cwd = _service_here()
    summary = run_demo(
        Demo(package, demo_stream(batches, clean, drift, seed), home.resolve()),
        console,
        target,
        cwd,
    )
    print_summary(summary, console, tail=10, sought="frauds", clean=clean)
    say(
        console,
        f"\nwhere to look next\n"
        f"  BENTOML_HOME={home} bentoml models list        the snapshots of every heal\n"
        f"  {home}/server.log                              what the server said\n"
        f"  {home}/selfheal/                               the store and threshold_config.json\n"
        f"  make serve                                    the same service, staying up\n",
    )


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet, rows in time order.")],
    label: Annotated[str, typer.Option(help="Column with the label: two classes.")],
    delay: Annotated[int, typer.Option(min=0, help="Rows between a row and its label.")] = 100,
    train_fraction: TrainFraction = 0.1,
    sensitive: Sensitive = None,
    drop: Drop = None,
    schema: Schema = None,
    limit: Annotated[
        int, typer.Option(min=0, help="Stream at most this many rows; 0 means all.")
    ] = 0,
    every: Annotated[int, typer.Option(min=1, help="Print one batch out of this many.")] = 10,
    recipe: Annotated[str, typer.Option(help="Healing recipe: race, replay or article.")] = "race",
    seed: Seed = 42,
    home: Annotated[
        Path | None, typer.Option(help="BENTOML_HOME to keep; a temporary one by default.")
    ] = None,
    unreported: Unreported = None,
    review: Review = None,
    review_share: ReviewShare = None,
    review_explored: ReviewExplored = None,
    review_budget: ReviewBudget = None,
) -> None:
    """Train on the first part of your own stream, serve it, and stream the rest."""
    from bento_selfheal.cli.labels.pattern import label_settings
    from bento_selfheal.cli.live import Demo, print_summary, run_demo
    from bento_selfheal.packaging.model_store import use_home
    from bento_selfheal.simulation.streams import read_table
    from bento_selfheal.simulation.table import package_table, table_stream

    console = Console()
    chosen = label_settings(unreported, review, review_share, review_explored, review_budget)
    settings = _with(Settings(), chosen, "replay")
    never = None if settings.unreported is None else settings.unreported.label
    env = {"SELFHEAL_RECIPE": recipe}
    env |= {f"SELFHEAL_{k.upper()}": _as_text(value) for k, value in chosen.items()}
    temporary = home is None
    folder = Path(tempfile.mkdtemp(prefix="selfheal-replay-")) if home is None else home
    try:
        table = read_table(file, label, drop or [], schema)
        use_home(folder)
        train, rest = table.split(train_fraction)
        say(console, f"read {file}: {'; '.join(table.notes)}")
        say(
            console,
            f"training on {counted(len(train.rows), 'row')}, streaming {len(rest.rows):,} …",
        )
        package = package_table("replay", train, seed, sensitive)
        stream = table_stream(rest, package, delay, limit)
        run = Demo(package, stream, folder.resolve(), every, env, never)
        try:
            summary = run_demo(run, console, DEFAULT_TARGET)
        except SelfHealError:
            temporary = False  # the server's log, which the message is about, stays
            raise
        print_summary(summary, console, tail=50)
    finally:
        if temporary:
            shutil.rmtree(folder, ignore_errors=True)


@app.command()
def backtest(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet, rows in time order.")],
    label: Annotated[str, typer.Option(help="Column with the label: two classes.")],
    train_fraction: TrainFraction = 0.1,
    delay: Annotated[int, typer.Option(min=0, help="Rows between a row and its label.")] = 100,
    sensitive: Sensitive = None,
    rule: Rules = None,
    drop: Drop = None,
    schema: Schema = None,
    try_: Tries = None,
    seed: Seed = 42,
    as_json: AsJson = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="CLASS", help="Class whose labels come; all by default. Repeatable."
        ),
    ] = None,
    delay_of: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=ROWS", help="Another delay for labels of a class. Repeatable."),
    ] = None,
    row_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds between two rows, for ages; 0.04 by default."),
    ] = None,
    unreported: Unreported = None,
    review: Review = None,
    review_share: ReviewShare = None,
    review_explored: ReviewExplored = None,
    review_budget: ReviewBudget = None,
) -> None:
    """Stream a file through the healing pipeline offline, without a server.

    Healing follows the SELFHEAL_ settings, as in the service. Each --try runs other settings too
    and says whether they would have been better, and by how much. Of each --rule it says how often
    it was right on the labels that came.
    """
    from bento_selfheal.cli.labels.pattern import label_pattern, label_settings
    from bento_selfheal.cli.output import print_backtest
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.packaging.model_store import use_home
    from bento_selfheal.simulation.comparison import backtest_table
    from bento_selfheal.simulation.streams import read_table

    table = read_table(file, label, drop or [], schema)
    with tempfile.TemporaryDirectory(prefix="selfheal-backtest-") as home:
        use_home(Path(home))
        chosen = label_settings(unreported, review, review_share, review_explored, review_budget)
        settings = _with(load_model_settings(), chosen, "backtest")
        pattern = label_pattern(settings, only, delay_of, row_seconds)
        tries = [_changed(settings, text) for text in try_ or []]
        result = backtest_table(
            table, settings, train_fraction, delay, seed, sensitive, tries, rule or [], pattern
        )
    if as_json:
        typer.echo(json.dumps(result))
    else:
        print_backtest(result, Console())


@app.command()
def backtest_log(
    try_: Tries = None,
    as_json: AsJson = False,
) -> None:
    """Replay the store's own log through the healing pipeline, offline.

    The SELFHEAL_ settings say which store and how to heal. Each --try runs other settings too.
    """
    from bento_selfheal.cli.output import print_backtest
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.simulation.comparison import backtest_log as run

    settings = load_model_settings()
    result = run(settings, [_changed(settings, text) for text in try_ or []])
    if as_json:
        typer.echo(json.dumps(result))
    else:
        print_backtest(result, Console())


@app.command()
def reproduce(
    seed: Seed = 42,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a parameter.")
    ] = None,
    ablation: Annotated[
        str | None, typer.Option(help="One of the article's iterations, v1 to v7.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the article's experiment and print its table, its log by batch and its snapshots."""
    from bento_selfheal.cli.output import print_experiment
    from bento_selfheal.simulation.article import run_experiment
    from bento_selfheal.simulation.article_settings import experiment_settings

    changes = dict(_name_value(text, "--set") for text in set_ or [])
    result = run_experiment(experiment_settings(seed, ablation, changes))
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        print_experiment(result, Console())


def _changed(settings: Settings, text: str) -> Settings:
    """Settings with the changes of one --try."""
    changes = dict(_name_value(part, "--try") for part in text.split(","))
    known = {*Settings.model_fields, *Tuning.model_fields}
    if unknown := sorted(changes.keys() - known):
        near = difflib.get_close_matches(unknown[0], sorted(known), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise SettingsError(f"--try: there is no setting {', '.join(unknown)}{hint}")
    return _with(settings, changes, "--try")


def _with(settings: Settings, changes: Mapping[str, Any], what: str) -> Settings:
    """Settings with changes that an option asks for."""
    from bento_selfheal.config.validation import describe

    try:
        return Settings.model_validate({**settings.model_dump(), **changes})
    except ValidationError as error:
        raise SettingsError(f"{what}: {describe(error)}") from error


def _as_text(value: Any) -> str:
    """A setting as its variable holds it."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _service_here() -> tuple[str, Path | None]:
    """The user's own service.py where there is one, else the packaged default."""
    if Path("service.py").is_file():
        return "service:SelfHealing", Path.cwd()
    return DEFAULT_TARGET, None
