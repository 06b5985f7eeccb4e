"""The command line application that every group of commands adds to, and options they share."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="bento-selfheal",
    help="Self-healing torch classifiers on BentoML.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # reflows paragraphs; the other modes keep the lines of the code
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(version("bento-selfheal"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Self-healing torch classifiers on BentoML."""


Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Tries = Annotated[
    list[str] | None,
    typer.Option("--try", metavar="NAME=VALUE,…", help="Other settings to run too. Repeatable."),
]
Unreported = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS,AGE",
        help="The setting `unreported`: rows are of this class where nobody has reported them at "
        "this age, such as 0,30d. Its labels never come.",
    ),
]
Review = Annotated[
    str | None, typer.Option(help="The setting `review`: all, flagged, capacity or queue.")
]
ReviewShare = Annotated[float | None, typer.Option(help="The setting `review_share`.")]
ReviewExplored = Annotated[float | None, typer.Option(help="The setting `review_explored`.")]
ReviewBudget = Annotated[
    int | None, typer.Option(help="The setting `review_budget`: rows a day, for queue.")
]
Sensitive = Annotated[
    list[str] | None, typer.Option(help="Feature for FIDI to watch; all by default. Repeatable.")
]
Rules = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="'V14 < -1.5 -> CLASS'", help="Rule to package. Repeatable."),
]
Drop = Annotated[list[str] | None, typer.Option(help="Column to leave out. Repeatable.")]
Schema = Annotated[
    Path | None, typer.Option(help="Types of the columns, as `inspect --write` writes them.")
]
TrainFraction = Annotated[
    float,
    typer.Option(min=0.001, max=0.999, help="Train on this share of the rows, from the start."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEFAULT_TARGET = "bento_selfheal.default_service:SelfHealing"
