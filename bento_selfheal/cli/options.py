"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Tries = Annotated[
    list[str] | None,
    typer.Option("--try", metavar="NAME=VALUE,…", help="Settings to run beside; repeatable."),
]
DEFAULT_TARGET = "bento_selfheal.default_service:SelfHealing"
