"""examples/observability: promtool takes the rules, they fire when they should, names exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from observability import FOLDER, dashboard, dashboard_queries, plain, rules

from bento_selfheal.telemetry.listed import ALL_METRICS
from bento_selfheal.telemetry.names import STATES

ASKED = {
    "SelfHealDrifting", "SelfHealLiftNegative", "SelfHealRolledBack", "SelfHealRunnerDead",
    "SelfHealLabelsMissing", "SelfHealRetrainNeeded", "SelfHealPredictionsDropped",
}  # fmt: skip

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed: `apt-get install prometheus`",
)


def promtool(*arguments: str | Path) -> None:
    """Run promtool, which must have nothing to say against it."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# -- the rules ------------------------------------------------------------------------------------


@needs_promtool
def test_promtool_takes_the_files() -> None:
    """The configuration and the rules that it names are valid."""
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", FOLDER / "alerts.yml")


@needs_promtool
def test_rules_fire_when_they_should() -> None:
    """On series made for it each rule fires, and none fires before or without its cause."""
    promtool("test", "rules", FOLDER / "alerts.test.yml")


def test_every_rule_is_tried() -> None:
    """No rule is without a case in which it fires."""
    assert {rule["alert"] for rule in rules()} >= ASKED
    tried = (FOLDER / "alerts.test.yml").read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in tried


def test_an_alert_says_what_to_do() -> None:
    """Each has a severity, a summary, and an action."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert len(rule["annotations"]["action"]) > 80


def test_every_name_exists() -> None:
    """Rules and dashboard ask for metrics and states that the code has."""
    ours = {metric.prometheus for metric in ALL_METRICS}
    for query in (*(rule["expr"] for rule in rules()), *dashboard_queries()):
        assert set(re.findall(r"\bselfheal_\w+", query)) <= ours, query
        for state in re.findall(r'state=~?"([A-Z_|]+)"', query):
            assert set(state.split("|")) <= set(STATES), query


# -- the dashboard --------------------------------------------------------------------------------


def test_grafanas_schema_has_every_field() -> None:
    """Read into Grafana's own types and written again, nothing of the dashboard is lost."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    board = dashboard()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    assert lost(board, again) == []


def lost(asked: Any, kept: Any, path: str = "") -> list[str]:
    """Paths of values in the one that are not in the other."""
    if isinstance(asked, dict) and isinstance(kept, dict):
        return [p for k, v in asked.items() for p in lost(v, kept.get(k), f"{path}.{k}")]
    if isinstance(asked, list) and isinstance(kept, list) and len(asked) == len(kept):
        pairs = zip(asked, kept, strict=True)
        return [p for i, (a, k) in enumerate(pairs) for p in lost(a, k, f"{path}[{i}]")]
    return [] if asked == kept or (not asked and kept is None) else [path]


def test_the_datasource_is_the_readers_choice() -> None:
    """Every panel, query and annotation asks the datasource that is picked at the top."""
    board = dashboard()
    [variable] = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    assert variable["query"] == "prometheus"
    asked = [board["annotations"]["list"], board["panels"]]
    asked += [panel["targets"] for panel in board["panels"]]
    for part in (part for parts in asked for part in parts):
        assert part["datasource"] == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}


def test_panels_lie_beside_each_other() -> None:
    """Ids are unique, and no panel lies over another or outside the grid."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        own = {(x, y) for x in range(place["x"], place["x"] + place["w"])
               for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not own & taken
        assert place["x"] + place["w"] <= 24
        taken |= own


@needs_promtool
def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    """Prometheus' own parser takes every query."""
    records = [
        {"record": f"query:{i}", "expr": plain(q)} for i, q in enumerate(dashboard_queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    promtool("check", "rules", file)
