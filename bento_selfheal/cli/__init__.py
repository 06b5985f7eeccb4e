"""`bento-selfheal`: one thin command a verb."""

from __future__ import annotations

import os

import typer
from rich.console import Console

from ..errors import SelfHealError, SettingsError

app = typer.Typer(
    name="bento-selfheal",
    help="Self-healing torch classifiers on BentoML.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

from . import files, learn, operate  # noqa: E402, F401 - each adds its commands to the app


def main() -> None:
    """Entry point: an error of ours is one clear line; exit code 2 when the call is wrong."""
    # One thread: two cores carry server, runner and client together.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        app()
    except SelfHealError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        raise SystemExit(2 if isinstance(error, SettingsError) else 1) from error
