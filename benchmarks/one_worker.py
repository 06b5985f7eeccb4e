"""A service of one predict process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worlds import ROOT

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

HERE = str(Path(__file__).parent)
"""Where a server finds the networks of these benchmarks."""


@contextmanager
def one_worker(
    home: Path, package: Package, state: Path | None = None, **settings: str
) -> Iterator[ServedService]:
    """A service for as long as the block lasts, whose state lies in a folder of its own."""
    env = {
        "SELFHEAL_MODEL": package.tag, "SELFHEAL_WORKERS": "1",
        "SELFHEAL_STATE_DIR": str(state or home / f"{package.name}-state"),
        "PYTHONPATH": os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip
    env |= {f"SELFHEAL_{name.upper()}": value for name, value in settings.items()}
    log = home / f"{package.name}.log"
    with ServedService("service:SelfHealing", home=home, log=log, cwd=ROOT, env=env) as server:
        yield server
