"""Requests that schemathesis makes from a service's API page, and how they are answered."""

from __future__ import annotations

from collections import Counter
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings


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
