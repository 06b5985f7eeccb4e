"""A drift as it shows in real backends: traces in arize-phoenix, metrics in Prometheus."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from backends import Phoenix, Prometheus, Unavailable, phoenix, prometheus, sends_to
from conftest import BRISK, ROOT, wait_for
from live import Client, Feeder, processes
from observability import dashboard_queries, plain, rules
from receiver import SECRET

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKERS = 2


@dataclass
class Drifted:
    """A server that has healed, promoted and been rolled back, and what it told."""

    server: ServedService
    client: Client
    status: dict[str, Any]
    metrics: Prometheus
    traces: Phoenix | str
    """Or why there is none."""


@pytest.fixture(scope="module")
def drifted(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Drifted]:  # fmt: skip
    """A drift, watched from outside."""
    folder = tmp_path_factory.mktemp("backends")
    with ExitStack() as stack:
        traces: Phoenix | str = "no test asks for traces"
        try:
            if any("spans" in getattr(item, "fixturenames", ()) for item in request.session.items):
                traces = stack.enter_context(phoenix(folder / "phoenix"))
        except Unavailable as error:
            traces = str(error)
        env = {
            "SELFHEAL_MODEL": package.tag,
            "SELFHEAL_STATE_DIR": str(folder / "state"),
            "SELFHEAL_WORKERS": str(WORKERS),
            # Panels of segments and webhooks show something only where there are some.
            "SELFHEAL_SEGMENTS": json.dumps([{"rule": "V14 < 0", "name": "low"}]),
            "SELFHEAL_WEBHOOKS": json.dumps(
                [
                    {
                        "name": "pipeline",
                        "url": "http://127.0.0.1:9/",
                        "kinds": ["retrain_needed"],
                        "secret": SECRET,
                    }
                ]
            ),
            **BRISK,
            **(sends_to(traces) if isinstance(traces, Phoenix) else {}),
        }
        server = stack.enter_context(
            ServedService(
                "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
            )
        )
        client = stack.enter_context(Client(server))
        try:
            metrics = stack.enter_context(prometheus(folder / "prometheus", server.url))
        except Unavailable as error:
            pytest.skip(str(error))
        wait_for(lambda: metrics.value("selfheal_runner_alive"), "the first scrape")
        yield Drifted(server, client, drift(client, metrics), metrics, traces)


def drift(client: Client, metrics: Prometheus) -> dict[str, Any]:
    """A clean batch, drifted ones up to a promotion, and an operator's rollback; the status."""
    feeder = Feeder(client, WORKERS)
    feeder.batch(drift=0)
    wait_for(lambda: feeder.batch()["state"] == "DRIFTING", "a drift")
    drifting = 'selfheal_state{state="DRIFTING"}'
    wait_for(lambda: metrics.value(drifting) == 1, "the drift in Prometheus")
    wait_for(lambda: feeder.batch()["promotions"], "a promotion", 120)
    client.ask("/rollback", {"version": 1})
    client.all_serve(1, WORKERS)
    wait_for(lambda: client.read("/status")["serving"]["version"] == 1, "the rollback seen")
    status: dict[str, Any] = client.read("/status")
    return status


# -- metrics in Prometheus ------------------------------------------------------------------------


def test_prometheus_has_the_state_and_the_heals(drifted: Drifted) -> None:
    """What /status says stands in Prometheus after the next scrape."""
    status, metrics = drifted.status, drifted.metrics
    wait_for(
        lambda: metrics.value("selfheal_rollbacks_total") == status["rollbacks"] == 1,
        "a scrape after the rollback",
    )
    assert metrics.value("selfheal_serving_version") == status["serving"]["version"]
    assert metrics.value("selfheal_heals_total") == status["heals"] >= 1
    assert metrics.value("selfheal_promotions_total") == status["promotions"] >= 1
    assert metrics.value("selfheal_signal_z") == pytest.approx(status["signals"]["z"])
    holding = {one["metric"]["state"] for one in metrics.vector("selfheal_state == 1")}
    assert holding == {status["state"]}
    drifted_once = 'max_over_time(selfheal_state{state="DRIFTING"}[5m])'
    assert metrics.value(drifted_once) == 1


def test_every_query_finds_something(drifted: Drifted) -> None:
    """Each query of the dashboard has an answer on a service that has healed and rolled back."""
    for query in dashboard_queries():
        wait_for(lambda q=query: drifted.metrics.vector(plain(q)), f"an answer to {query}")


def test_the_rollback_is_an_alert(drifted: Drifted) -> None:
    """Prometheus takes all rules, and the one for rollbacks fires."""
    groups = drifted.metrics.get("/api/v1/rules").json()["data"]["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert loaded == dict.fromkeys((rule["alert"] for rule in rules()), "ok")
    firing = 'ALERTS{alertname="SelfHealRolledBack", alertstate="firing"}'
    [alert] = wait_for(lambda: drifted.metrics.vector(firing), "the alert")
    assert alert["metric"]["severity"] == "warning"


def test_a_silent_runner_shows(drifted: Drifted) -> None:
    """The runner is stopped past its lease: it counts as dead; it goes on: alive again."""
    alive = "max(selfheal_runner_alive)"
    [runner] = processes(drifted.server, "HealingRunner")
    runner.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: drifted.metrics.value(alive) == 0, "the lease has run out")
    finally:
        runner.send_signal(signal.SIGCONT)
    wait_for(lambda: drifted.metrics.value(alive) == 1, "the runner leads again")


# -- traces in phoenix ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spans(drifted: Drifted) -> list[dict[str, Any]]:
    """Every span that phoenix has, once it has the last one."""
    traces = drifted.traces
    if isinstance(traces, str):
        pytest.skip(traces)

    def all_of_them() -> list[dict[str, Any]] | None:
        found = traces.spans()
        return found if _named(found, "selfheal.rollback") else None

    found: list[dict[str, Any]] = wait_for(all_of_them, "the rollback's span")
    return found


def _named(spans: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in spans if span["name"] == name]


@pytest.mark.long
def test_the_heal_is_found_with_its_losses_and_its_outcome(
    drifted: Drifted, spans: list[dict[str, Any]]
) -> None:
    """Each heal that /status counts is a span with what it trained on and what came of it."""
    heals = [span["attributes"] for span in _named(spans, "selfheal.heal")]
    assert len(heals) == drifted.status["heals"]
    assert "promoted" in {heal["selfheal.outcome"] for heal in heals}
    for heal in heals:
        assert heal["selfheal.loss.total"] >= heal["selfheal.loss.real"] > 0
        assert heal["selfheal.rows"] >= 100
    reasons = " ".join(heal["selfheal.reason"] for heal in heals)
    assert "V14" in reasons


@pytest.mark.long
def test_the_heal_leads_to_the_request(spans: list[dict[str, Any]]) -> None:
    """Its link names the trace of the feedback that led to it, and that request is there, whole:
    BentoML's span of it above ours."""
    for heal in _named(spans, "selfheal.heal"):
        linked = heal["attributes"]["selfheal.link.trace_ids"]
        assert heal["context"]["trace_id"] not in linked
        for trace in linked:
            request = [span for span in spans if span["context"]["trace_id"] == trace]
            [feedback] = _named(request, "selfheal.feedback")
            assert feedback["attributes"]["selfheal.feedback.accepted"] == 100
            above = {span["context"]["span_id"]: span for span in request}
            assert "feedback" in above[feedback["parent_id"]]["name"]


@pytest.mark.long
def test_the_heals_tree(spans: list[dict[str, Any]]) -> None:
    """The heal that promoted holds its snapshots, the gate's looks, and the promotion."""
    promoted = [s for s in _named(spans, "selfheal.heal")
                if s["attributes"]["selfheal.outcome"] == "promoted"]  # fmt: skip
    for heal in promoted:
        below = {s["name"] for s in spans if s["parent_id"] == heal["context"]["span_id"]}
        assert below >= {"selfheal.snapshot", "selfheal.gate", "selfheal.promote"}
