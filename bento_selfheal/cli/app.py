"""The command line application that every group of commands adds to."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="bento-selfheal",
    help="Self-healing torch classifiers on BentoML.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
