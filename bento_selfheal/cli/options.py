"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Tries = Annotated[
    list[str] | None,
    typer.Option("--try", metavar="NAME=VALUE,…", help="Other settings to run too. Repeatable."),
]
Sensitive = Annotated[
    list[str] | None, typer.Option(help="Feature for FIDI to watch; all by default. Repeatable.")
]
Drop = Annotated[list[str] | None, typer.Option(help="Column to leave out. Repeatable.")]
TrainFraction = Annotated[
    float,
    typer.Option(min=0.001, max=0.999, help="Train on this share of the rows, from the start."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DEFAULT_TARGET = "bento_selfheal.default_service:SelfHealing"
