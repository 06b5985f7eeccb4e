"""Requests that schemathesis makes from a service's API page, and how they are answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from worlds import ROOT

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService


@contextmanager
def one_worker(home: Path, package: Package) -> Iterator[str]:
    """A service of one predict process for as long as the block lasts; its address."""
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(home / f"{package.name}-state")}
    log = home / f"{package.name}.log"
    with ServedService("service:SelfHealing", home=home, log=log, cwd=ROOT, env=env) as server:
        yield server.url


def statuses(url: str, path: str, count: int) -> Counter[int]:
    """How requests are answered that the page calls valid, by status."""
    schema = schemathesis.openapi.from_url(f"{url}/docs.json")
    valid = schema[path]["POST"].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    seen: Counter[int] = Counter()
    session = requests.Session()
    session.trust_env = False

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=valid)
    def ask(case: Any) -> None:
        seen[case.call(session=session, timeout=30).status_code] += 1

    with session:
        ask()
    return seen
