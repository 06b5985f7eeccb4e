"""Commands that read a deployment's store: exports, plots, the report and the doctor."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bento_selfheal.cli.app import AsJson, app
from bento_selfheal.cli.governance.acts import note
from bento_selfheal.cli.terminal import say
from bento_selfheal.core.text import counted

if TYPE_CHECKING:
    from bento_selfheal.reports.report_data import ReportData


class Format(StrEnum):
    """File formats of a plot."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


Since = Annotated[
    str | None,
    typer.Option(help="Start: a length such as 24h or 7d, or an ISO date and time."),
]
Until = Annotated[str | None, typer.Option(help="End, in the same form; now by default.")]
Experiment = Annotated[
    bool, typer.Option("--experiment", help="Use the article's experiment instead of the store.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the experiment.")]


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")] = Path("export"),
    since: Since = None,
    until: Until = None,
    experiment: Experiment = False,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Write metrics.csv, signals.csv, events.json and threshold_config.json.

    The SELFHEAL_ settings say which store.
    """
    from bento_selfheal.reports.export import write_export

    _print_files(write_export(_report_data(since, until, experiment, seed), folder), as_json)
    if not experiment:
        _note_export("export", folder, since, until)


@app.command()
def export_inputs(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; a new one.")] = Path(
        "inputs"
    ),
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Write the labelled inputs that SELFHEAL_LOG_INPUTS kept, to retrain a network from.

    Each input is a file; metadata.parquet has the label, facts and prediction id of each.
    """
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.reports.inputs_export import export_inputs

    start, end = _period(since, until)
    done = export_inputs(load_model_settings(), folder, start, end)
    _note_export("export_inputs", folder, since, until, inputs=done.inputs)
    if as_json:
        typer.echo(json.dumps({**asdict(done), "table": str(done.table)}))
        return
    say(Console(), f"{done.table}  {counted(done.inputs, 'labelled input')}")
    if done.quarantined:
        left = counted(done.quarantined, "input")
        say(Console(), f"left out: {left} with labels of quarantined sources")
    if not done.inputs:
        say(Console(), "SELFHEAL_LOG_INPUTS says which share of the inputs the service keeps")


@app.command()
def plots(
    folder: Annotated[Path, typer.Argument(help="Folder for the pictures.")] = Path("plots"),
    since: Since = None,
    until: Until = None,
    experiment: Experiment = False,
    seed: Seed = 42,
    kind: Annotated[Format, typer.Option("--format", help="File format.")] = Format.PNG,
    as_json: AsJson = False,
) -> None:
    """Draw the article's eight plots. Needs the extra `plots`."""
    from bento_selfheal.reports.plots import write_plots

    _print_files(write_plots(_report_data(since, until, experiment, seed), folder, kind), as_json)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="The HTML file.")] = Path("report.html"),
    since: Since = None,
    until: Until = None,
    experiment: Experiment = False,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file with figures, plots and what was done. Needs the extra `plots`."""
    from bento_selfheal.reports.html import render_report

    file.write_text(render_report(_report_data(since, until, experiment, seed)))
    _print_files([file], as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check the deployment: versions, model, store, permissions, telemetry and settings.

    Exits with code 1 when something must be fixed. The SELFHEAL_ settings say what to check: every
    model of several, or the one that SELFHEAL_MODEL names.
    """
    from bento_selfheal.config.settings import load_settings
    from bento_selfheal.reports.doctor import Grade, examine

    findings = list(examine(load_settings()))
    if as_json:
        typer.echo(json.dumps([asdict(f) for f in findings]))
    else:
        from bento_selfheal.cli.output import print_findings

        print_findings(findings, Console())
    if any(f.grade is Grade.BAD for f in findings):
        raise typer.Exit(1)


def _report_data(since: str | None, until: str | None, experiment: bool, seed: int) -> ReportData:
    from bento_selfheal.config.settings import load_model_settings
    from bento_selfheal.reports.report_data import read_experiment, read_store

    if experiment:
        from bento_selfheal.simulation.article import run_experiment
        from bento_selfheal.simulation.article_settings import experiment_settings

        return read_experiment(run_experiment(experiment_settings(seed)))
    return read_store(load_model_settings(), *_period(since, until))


def _note_export(act: str, folder: Path, since: str | None, until: str | None, **more: int) -> None:
    from bento_selfheal.config.settings import load_model_settings

    where = {"folder": str(folder.resolve()), "since": since, "until": until}
    note(load_model_settings(), act, {**where, **more})


def _period(since: str | None, until: str | None) -> tuple[float, float]:
    """Seconds since the epoch; 0 where nothing is said."""
    from bento_selfheal.reports.report_data import moment

    return (
        moment(since, "--since") if since else 0.0,
        moment(until, "--until") if until else 0.0,
    )


def _print_files(files: list[Path], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"files": [str(path) for path in files]}))
        return
    for path in files:
        say(Console(), f"{path}  {path.stat().st_size:,} bytes")
