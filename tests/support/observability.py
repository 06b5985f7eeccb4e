"""The rules and the dashboard of examples/observability."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from conftest import ROOT

FOLDER = ROOT / "examples" / "observability"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def dashboard_queries() -> Iterator[str]:
    board = dashboard()
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])


def plain(query: str) -> str:
    """A query of the dashboard with Grafana's variables filled in."""
    filled = {"$job": "selfheal", "$__rate_interval": "1m", "$__range": "6h"}
    for variable, value in filled.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query
