"""Webhooks, thresholds and the audit of a real server: its receiver is away and its runner killed,
and what was done, by whom, can be proved afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, wait_for
from live import Client, processes, served
from playwright.sync_api import Browser, expect
from receiver import SECRET, Receiver, is_genuine

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

pytestmark = [pytest.mark.slow, pytest.mark.faults]

KINDS = ["pause", "resume", "thresholds"]
ROUNDS = 4
SECONDS = 30_000


@pytest.fixture(scope="module")
def receiver() -> Receiver:
    """A receiver that listens only while a test says so."""
    receiver = Receiver()
    with receiver.listening():
        pass
    return receiver


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("governance")


@pytest.fixture(scope="module")
def server(
    home: Path, package: Package, folder: Path, receiver: Receiver
) -> Iterator[ServedService]:
    hook = {"name": "desk", "url": receiver.url, "kinds": KINDS, "secret": SECRET}
    with served(
        home, package, folder, workers=1, webhooks=json.dumps([hook]), lease_seconds=2
    ) as server:
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    with Client(server) as client:
        yield client


def hook_of(client: Client) -> dict[str, Any]:
    found = client.read("/status").get("webhooks") or [{}]
    return dict(found[0])


def events_of(client: Client, kind: str) -> list[int]:
    return [e["seq"] for e in client.read("/events") if e["kind"] == kind]


def test_away_and_killed(
    server: ServedService, client: Client, receiver: Receiver, record_fault: Any
) -> None:
    """While nothing listens, operators go on and the runner is killed; once the receiver is back it
    has every event at least once, in order by kind and signed."""
    wait_for(lambda: "delivered" in hook_of(client), "the webhook in the status")
    with receiver.listening():
        client.post("/pause")
        wait_for(lambda: receiver.places("pause"), "the first event")
    for number in range(ROUNDS):
        client.post("/resume")
        client.post("/pause")
        if number == ROUNDS // 2:
            [runner] = processes(server, "HealingRunner")
            runner.kill()
    pauses = wait_for(
        lambda: (found := events_of(client, "pause"))[ROUNDS:] and found, "a successor to lead"
    )
    resumes = events_of(client, "resume")
    assert len(resumes) == ROUNDS
    wait_for(lambda: hook_of(client).get("failing"), "the failure in the status")
    with receiver.listening():
        wait_for(lambda: set(receiver.places("pause")) == set(pauses), "all of one kind")
        wait_for(lambda: set(receiver.places("resume")) == set(resumes), "all of the other")
        for kind in ("pause", "resume"):
            came = receiver.places(kind)
            assert came == sorted(came)
        assert all(map(is_genuine, receiver.got))
        wait_for(lambda: not hook_of(client)["failing"], "the failure to be over")
    sent = len(pauses) + len(resumes)
    record_fault(
        "webhook's receiver away, runner killed", events=sent, lost=0,
        twice=len(receiver.taken) - sent,
    )  # fmt: skip


def test_thresholds_and_the_audit(
    server: ServedService, client: Client, folder: Path, browser: Browser
) -> None:
    """Thresholds that are changed on the page come into force and into their file; that a webhook
    fails is said there; and the command line finds the audit whole, until somebody touches it."""
    refused = client.post("/thresholds", json={"miss_cost": -1})
    assert refused.status_code == 422
    assert "miss_cost: Input should be greater than 0, got -1" in refused.json()["error"]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(SECONDS)
    page.goto(f"{server.url}/selfheal#models")
    cost = page.get_by_label("cost of a miss")
    expect(cost).to_have_value("1")
    cost.fill("7.5")
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Change", exact=True).click()
    wait_for(lambda: client.read("/status")["thresholds"]["miss_cost"] == 7.5, "the new cost")
    written = json.loads((folder / "state" / "threshold_config.json").read_text())
    assert written["miss_cost"] == 7.5
    expect(page.locator("#alert")).to_contain_text("Webhook desk fails", timeout=SECONDS)
    page.get_by_role("tab", name="Events", exact=True).click()
    expect(page.locator("#webhook-list")).to_contain_text("desk")
    expect(page.locator("#event-list")).to_contain_text("thresholds changed: miss_cost 1 → 7.5")
    if pictures := os.environ.get("PICTURES"):
        page.screenshot(path=Path(pictures) / "webhooks.png", full_page=True)
        page.get_by_role("tab", name="Models", exact=True).click()
        page.screenshot(path=Path(pictures) / "thresholds.png", full_page=True)
    page.close()
    assert audit(folder, "verify").returncode == 0
    entries = json.loads(audit(folder, "list", "--json").stdout)
    acts = [(e["act"], e["by"], e["role"]) for e in entries]
    assert ("thresholds", "operator", "operate") in acts
    assert ("thresholds_changed", "operator", "operate") in acts
    assert {"deploy", "pause", "resume", "webhook"} <= {act for act, _, _ in acts}


def audit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "SELFHEAL_STATE_DIR": str(folder / "state"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-c", "from bento_selfheal.cli.main import main; main()", "audit"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )
