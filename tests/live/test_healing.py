"""Heals, promotions and rollbacks over HTTP, with two predict workers that must follow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from live import Client, Feeder, served

from bento_selfheal.packaging.package import Package
from bento_selfheal.scoring.scores import Scores
from bento_selfheal.simulation.demo import demo_stream
from bento_selfheal.simulation.driver import Driver, Summary
from bento_selfheal.simulation.server import ServedService

WORKERS = 2
KEPT = 8
TAIL = 10


@dataclass
class Driven:
    """A server that has seen the demo's stream."""

    server: ServedService
    client: Client
    summary: Summary
    home: Path


@pytest.fixture(scope="module")
def driven(
    home: Path, package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driven]:
    """Healed by the demo's stream: clean batches, then drifted ones, labels a batch late."""
    folder = tmp_path_factory.mktemp("driven")
    with (
        served(home, package, folder, workers=WORKERS, snapshots_kept=KEPT) as server,
        Client(server) as client,
    ):
        driver = Driver(server.url, package, WORKERS)
        reports = list(driver.run(demo_stream(20, 4, 2.2, 42)))
        yield Driven(server, client, Summary(reports, client.read("/status"), package), home)


# -- the demo's stream ----------------------------------------------------------------------------


def test_the_champion_wins_back_what_the_frozen_model_lost(driven: Driven) -> None:
    """Acceptance 3: on drifted rows, answered before their labels were known, at least 0.80."""
    late = driven.summary.reports[-TAIL:]
    shadow = sum((r.shadow for r in late), Scores(0, 0, 0, 0))
    assert shadow.accuracy < 0.55
    assert driven.summary.tail(TAIL).champion.accuracy >= 0.80
    assert driven.summary.status["promotions"] >= 1
    figures = driven.summary.tail(TAIL).figures()
    caught, lost = (figures[name]["caught"] or 0 for name in ("champion", "frozen"))
    assert caught > 1.2 * lost
    assert driven.summary.status["lift"]["low"] > 0


def test_every_heal_leaves_a_snapshot_before_and_one_after(driven: Driven) -> None:
    """The log of heals and the snapshots tell one story, and only a bounded number is kept."""
    heals = [e["detail"] for e in driven.client.events("heal")]
    assert [h["heal"] for h in heals] == list(range(1, len(heals) + 1))
    assert len(heals) == driven.client.read("/status")["heals"] >= 10
    snapshots = driven.client.read("/snapshots")
    assert len(snapshots) <= KEPT
    assert [s["phase"] for s in snapshots if s["version"] == 1] == ["clean"]
    assert sum(s["serving"] for s in snapshots) == 1
    newest = heals[-1]["heal"]
    assert [s["phase"] for s in snapshots if s["heal"] == newest] == ["pre-heal", "post-heal"]
    post = {s["heal"]: s["version"] for s in snapshots if s["phase"] == "post-heal"}
    assert post.items() <= {h["heal"]: h["version"] for h in heals}.items()


def test_snapshots_stand_in_the_model_store_with_what_they_are(
    driven: Driven, package: Package
) -> None:
    """`bentoml models list` and `get` show phase, heal and figures of just the kept ones."""
    kept = {s["tag"]: s for s in driven.client.read("/snapshots")}
    listed = [m for m in _bentoml(driven.home, "models", "list") if m["tag"] in kept]
    assert {m["tag"] for m in listed} == set(kept)
    store_id = driven.client.read("/snapshots")[0]["tag"].split(":")[1].split("-")[0]
    ours = f"{package.tag.split(':')[0]}-adapter:{store_id}-"
    all_ours = [m for m in _bentoml(driven.home, "models", "list") if m["tag"].startswith(ours)]
    assert len(all_ours) == len(kept)
    newest = max(kept.values(), key=lambda s: s["version"])
    shown = _bentoml(driven.home, "models", "get", newest["tag"])
    assert shown["labels"] == {
        "selfheal": "adapter", "phase": "post-heal", "heal": str(newest["heal"]),
    }  # fmt: skip
    facts = shown["metadata"]
    assert facts["sha256"] == newest["sha256"]
    assert facts["package"] == package.tag
    assert facts["version"] == newest["version"]
    assert facts["reason"] == newest["reason"]
    assert facts["losses"]["real"] > 0


def test_all_workers_serve_a_promotion_within_a_second(driven: Driven) -> None:
    """Each worker's own time of the swap lies within a second of the promotion's."""
    newest = driven.client.read("/promotions")[-1]
    assert newest["kind"] == "promote"
    workers = driven.client.all_serve(newest["version"], WORKERS)
    waited = [w["serving_since"] - newest["time"] for w in workers.values()]
    assert all(0 <= seconds < 1 for seconds in waited), waited


def test_a_promotion_can_be_explained(driven: Driven) -> None:
    """Evidence, the labels it rests on and the thresholds in force stand in the log."""
    promoted = [p for p in driven.client.read("/promotions") if p["kind"] == "promote"]
    first = promoted[0]["evidence"]
    assert first["log_e"] >= first["log_e_needed"] > 0
    assert first["mean_gain"] > 0
    for promotion in promoted:
        evidence = promotion["evidence"]
        assert evidence["mean_gain"] >= -evidence["standard_error"]
        assert 0 < evidence["first_label"] < evidence["last_label"]
        assert evidence["thresholds"] == driven.client.read("/status")["thresholds"]
        assert promotion["by"] == "runner"


def test_an_operator_rolls_back_to_a_version_and_by_one(driven: Driven) -> None:
    """The workers follow the operator; what is not there or serves already is a 409."""
    client = driven.client
    serving = client.read("/status")["serving"]["version"]
    rolled = client.ask("/rollback", {"version": 1})
    assert (rolled["kind"], rolled["version"], rolled["by"]) == ("rollback", 1, "operator")
    client.all_serve(1, WORKERS)
    assert client.predict([[0.0] * 10])["model_version"] == 1
    wait_for(lambda: client.read("/status")["state"] == "ROLLED_BACK", "the runner's new state")

    assert client.post("/rollback", json={"version": 1}).status_code == 409
    missing = client.post("/rollback", json={"version": 99999})
    assert missing.status_code == 409
    assert "99999" in missing.text

    nothing = client.post("/rollback")
    assert nothing.status_code == 409
    assert "nothing older to go back to" in nothing.json()["error"]
    assert client.ask("/rollback", {"version": serving})["version"] == serving
    client.all_serve(serving, WORKERS)
    [previous] = [s["version"] for s in client.read("/snapshots") if s["previous"]]
    assert client.ask("/rollback")["version"] == previous
    client.all_serve(previous, WORKERS)
    detail = client.events("rollback")[-1]["detail"]
    assert (detail["version"], detail["from"], detail["by"]) == (previous, serving, "operator")


# -- observe, commands and thresholds -------------------------------------------------------------


@pytest.fixture(scope="module")
def observed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the state of the observing server."""
    return tmp_path_factory.mktemp("observed")


@pytest.fixture(scope="module")
def observer(home: Path, package: Package, observed_folder: Path) -> Iterator[ServedService]:
    """A server that does everything but the promotion."""
    with served(home, package, observed_folder, workers=1, mode="observe") as server:
        yield server


@pytest.fixture(scope="module")
def observing(observer: ServedService) -> Iterator[Client]:
    """A client of the observing server."""
    with Client(observer) as client:
        yield client


@pytest.fixture(scope="module")
def feeder(observing: Client) -> Feeder:
    """The observing server's stream."""
    return Feeder(observing, workers=1)


def test_a_heal_without_labels_is_skipped(observing: Client) -> None:
    """An operator who asks too early is told so by an event."""
    observing.ask("/heal")
    (skipped,) = wait_for(lambda: observing.events("heal_skipped"), "the event")
    assert "label" in skipped["detail"]["reason"]
    assert observing.events("heal") == []


def test_observe_does_all_but_promote(observing: Client, feeder: Feeder) -> None:
    """Heals train and the gate decides, yet the clean adapter goes on serving."""

    def would() -> list[dict[str, Any]]:
        feeder.batch()
        return observing.events("would_promote")

    first = wait_for(would, "a challenger that the gate would let through", 120)[0]
    assert "loss lower" in first["detail"]["reason"]
    assert first["detail"]["version"] in {s["version"] for s in observing.read("/snapshots")}
    feeder.batch()
    assert observing.read("/status")["heals"] >= 2
    assert [p["kind"] for p in observing.read("/promotions")] == ["initial"]
    assert observing.worker()["serving_version"] == 1
    assert feeder.served_by == 1


def test_pause_stops_heals_and_resume_takes_them_up(observing: Client, feeder: Feeder) -> None:
    """While paused, drifted labels are learned but nothing is healed."""
    feeder.batch()
    observing.ask("/pause")
    wait_for(lambda: observing.read("/status")["paused"], "pause")
    before = observing.read("/status")
    after = feeder.batch()
    assert after["labelled_batches"] > before["labelled_batches"]
    assert after["signals"]["drifting"] is True
    assert after["heals"] == before["heals"]
    observing.ask("/resume")
    wait_for(lambda: not observing.read("/status")["paused"], "resume")
    assert feeder.batch()["heals"] > before["heals"]


def test_an_operator_asks_for_a_heal(observing: Client, feeder: Feeder) -> None:
    """With labels there, a heal comes without a new one."""
    before = feeder.batch()["heals"]
    observing.ask("/heal")
    wait_for(lambda: observing.read("/status")["heals"] == before + 1, "the heal asked for")
    assert (
        "operator"
        in wait_for(lambda: observing.events("heal")[before:], "its event")[0]["detail"]["reason"]
    )


@pytest.mark.slow
def test_thresholds_are_picked_up_while_running(observing: Client, observed_folder: Path) -> None:
    """A good edit is in force at once; a bad one is refused in the log and the old one stays."""
    file = observed_folder / "state" / "threshold_config.json"
    written = wait_for(lambda: file.exists() and file.read_text(), "the runner's file")
    defaults = json.loads(written)
    edited = {**defaults, "rollback_f1_drop": 0.02}
    file.write_text(json.dumps(edited))

    def shown() -> Any:
        return observing.read("/status")["thresholds"]

    wait_for(lambda: shown() == edited, "the edit")
    told = wait_for(lambda: observing.events("thresholds"), "its event")[-1]["detail"]
    assert {**told, **edited} == told
    assert told["before"] == defaults

    log = observed_folder / "server.log"
    for bad, named in (
        ('{"rollback_f1_drop": 7}', "rollback_f1_drop"),
        ('{"rollback_f2_drop": 0.1}', "rollback_f2_drop"),
        ("{not json", "JSON"),
    ):
        start = log.stat().st_size
        file.write_text(bad)
        wait_for(
            lambda start=start, named=named: _refused(log, start, named), f"a refusal of {bad}"
        )
        assert shown() == edited
    file.write_text(json.dumps({**edited, "rollback_acc_drop": 0.5}))
    wait_for(lambda: shown()["rollback_acc_drop"] == 0.5, "a good edit after bad ones")


def _refused(log: Path, start: int, named: str) -> bool:
    lines = log.read_bytes()[start:].decode(errors="replace").splitlines()
    return any("refused" in line and named in line for line in lines)


# -- automatic rollback ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_promoted_model_that_goes_bad_is_rolled_back(
    home: Path, package: Package, tmp_path: Path
) -> None:
    """When an old world comes back, the snapshot that knew it serves again, on every worker."""
    state = tmp_path / "state"
    state.mkdir()
    thresholds = {"rollback_f1_drop": 1.0, "rollback_acc_drop": 0.35}
    (state / "threshold_config.json").write_text(json.dumps(thresholds))
    settings = {
        "workers": WORKERS, "gate_alpha": 1e-300, "trial_rows": 100_000, "health_window": 3,
        "heal_lr": 0.01, "snapshots_kept": 100, "health": "article", "anchor_half_life": 100,
        "anchor_rare": 10, "replay_half_life": 100, "recipe": "replay",
    }  # fmt: skip
    with served(home, package, tmp_path, **settings) as server, Client(server) as client:
        feeder = Feeder(client, WORKERS)
        for _ in range(5):
            feeder.batch(flipped=True)
        heals_of_old_world = client.read("/status")["heals"]
        for _ in range(6):
            feeder.batch()
        good = max(s["version"] for s in client.read("/snapshots") if s["phase"] == "post-heal")
        client.ask("/rollback", {"version": good})  # the gate is closed: an operator promotes
        client.all_serve(good, WORKERS)
        for _ in range(3):
            feeder.batch()
        assert feeder.accuracy > 0.7

        feeder.batch(flipped=True)
        assert feeder.accuracy < 0.4
        status = feeder.batch(flipped=True)
        assert status["state"] == "ROLLED_BACK"
        assert status["rollbacks"] == 2  # the operator's and this one
        rolled = client.read("/promotions")[-1]
        assert (rolled["kind"], rolled["by"]) == ("rollback", "runner")
        assert "accuracy" in rolled["reason"]
        assert rolled["evidence"]["from_version"] == good
        assert thresholds.items() <= rolled["evidence"]["thresholds"].items()
        target = next(s for s in client.read("/snapshots") if s["version"] == rolled["version"])
        assert target["phase"] == "post-heal"
        assert target["heal"] <= heals_of_old_world
        workers = client.all_serve(rolled["version"], WORKERS)
        assert all(w["serving_since"] - rolled["time"] < 1 for w in workers.values())
        event = client.events("rollback")[-1]["detail"]
        assert (event["version"], event["from"]) == (rolled["version"], good)
        feeder.batch(flipped=True)
        assert feeder.served_by == rolled["version"]
        assert feeder.accuracy > 0.7


def _bentoml(home: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *arguments, "-o", "json"],
        env={**os.environ, "BENTOML_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)
