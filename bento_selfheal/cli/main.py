"""The entry point of the `bento-selfheal` command."""

from __future__ import annotations

import os

from rich.console import Console

from bento_selfheal.cli import models, operate, reports, simulate  # noqa: F401 - each adds commands
from bento_selfheal.cli.app import app
from bento_selfheal.errors import SelfHealError, SettingsError


def main() -> None:
    """Entry point: an error of ours is one clear line; exit code 2 when the call is wrong."""
    # One thread: two cores carry server, runner and client together.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        app()
    except SelfHealError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        raise SystemExit(2 if isinstance(error, SettingsError) else 1) from error
