"""Commands that read a deployment's own store: exports, plots, the report, the doctor."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bento_selfheal.cli.app import app

if TYPE_CHECKING:
    from bento_selfheal.reports.period import Period


class Format(StrEnum):
    """Files that plots can be."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


Since = Annotated[
    str | None, typer.Option(help="From when: a length such as 24h or 7d, or an ISO date and time.")
]
Until = Annotated[str | None, typer.Option(help="Until when, likewise; now when not given.")]
Experiment = Annotated[
    bool, typer.Option("--experiment", help="Of the article's experiment instead of the store.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the experiment.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


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
    from bento_selfheal.reports.export import write_period

    _say_files(write_period(_period(since, until, experiment, seed), folder), as_json)


@app.command()
def plots(
    folder: Annotated[Path, typer.Argument(help="Folder for the pictures.")] = Path("plots"),
    since: Since = None,
    until: Until = None,
    experiment: Experiment = False,
    seed: Seed = 42,
    kind: Annotated[Format, typer.Option("--format")] = Format.PNG,
    as_json: AsJson = False,
) -> None:
    """Draw the article's eight plots; needs the extra `plots`."""
    from bento_selfheal.reports.plots import write_plots

    _say_files(write_plots(_period(since, until, experiment, seed), folder, kind), as_json)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="The HTML file.")] = Path("report.html"),
    since: Since = None,
    until: Until = None,
    experiment: Experiment = False,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file: figures, plots, what was done and why; needs the extra `plots`."""
    from bento_selfheal.reports.html import render_report

    file.write_text(render_report(_period(since, until, experiment, seed)))
    _say_files([file], as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look the deployment over: versions, model, store, permissions, telemetry, settings.

    Exit code 1 when something needs mending. The SELFHEAL_ settings say what is looked at.
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


def _period(since: str | None, until: str | None, experiment: bool, seed: int) -> Period:
    from bento_selfheal.config.settings import load_settings
    from bento_selfheal.reports.period import moment, period_of_experiment, period_of_store

    if experiment:
        from bento_selfheal.simulation.article import experiment_settings, run_experiment

        return period_of_experiment(run_experiment(experiment_settings(seed)))
    start = moment(since, "--since") if since else 0.0
    return period_of_store(load_settings(), start, moment(until, "--until") if until else 0.0)


def _say_files(files: list[Path], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"files": [str(path) for path in files]}))
        return
    for path in files:
        Console().print(f"{path}  {path.stat().st_size:,} bytes", highlight=False, soft_wrap=True)
