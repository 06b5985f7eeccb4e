"""For tests of a project that `bento-selfheal init` wrote: its service, trained and served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bento_selfheal.client.client import Client
from bento_selfheal.simulation.server import ServedService


@contextmanager
def trained_and_served(project: Path, folder: Path) -> Iterator[Client]:
    """Train a project's model and serve it with one worker, for as long as the block lasts.

    Nothing of it reaches the user's model store, or the store that the settings name. The client
    needs no token, whatever tokens file they name.

    Args:
        project: Folder with `train.py` and `service.py`.
        folder: An empty folder for the model store, the state and the server's log.

    Raises:
        subprocess.CalledProcessError: `train.py` failed; it printed why.
        SelfHealError: The service did not start; the message shows the end of its log.
    """
    own = {
        "SELFHEAL_STORE_URL": "",
        "SELFHEAL_STATE_DIR": str(folder / "state"),
        "SELFHEAL_TOKENS_FILE": "",
        "SELFHEAL_WORKERS": "1",
    }
    home = folder / "bentoml"
    subprocess.run(
        [sys.executable, "train.py"],
        cwd=project,
        env={**os.environ, "BENTOML_HOME": str(home)},
        check=True,
    )
    with (
        ServedService(
            "service:SelfHealing", home=home, log=folder / "server.log", cwd=project, env=own
        ) as server,
        Client(server.url) as client,
    ):
        yield client
