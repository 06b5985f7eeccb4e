"""The entry point of the `bento-selfheal` command."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from bento_selfheal.cli import (  # noqa: F401 - each adds commands
    inspect,
    models,
    operate,
    reports,
    simulate,
)
from bento_selfheal.cli.app import app
from bento_selfheal.cli.candidates import command as candidates  # noqa: F401 - adds commands
from bento_selfheal.cli.governance import audit, thresholds, webhook  # noqa: F401 - each adds some
from bento_selfheal.cli.labels import command as labels_command  # noqa: F401 - adds a command
from bento_selfheal.cli.project import command as project_command  # noqa: F401 - adds a command
from bento_selfheal.cli.terminal import say
from bento_selfheal.errors import SelfHealError, SettingsError


def main() -> None:
    """Run a command; a `SelfHealError` becomes one line, and a wrong setting exit code 2.

    So does a file that cannot be read or written.
    """
    sys.path.append(os.getcwd())  # a model's builder may lie there, as for `bentoml serve`
    # One thread: two cores carry server, runner and client together.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        app()
    except SelfHealError as error:
        say(Console(stderr=True), f"error: {error}")
        raise SystemExit(2 if isinstance(error, SettingsError) else 1) from error
    except OSError as error:
        if error.filename is None:
            raise
        say(Console(stderr=True), f"error: {error.strerror}: {error.filename}")
        raise SystemExit(1) from error
