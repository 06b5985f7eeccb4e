"""Candidates and canaries on a real server: the better one serves, and odd ones harm nobody."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from commands import COMMAND
from conftest import BRISK, ROOT, wait_for
from live import processes

from bento_selfheal.client.client import Client
from bento_selfheal.errors import CommandError
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.package import Package
from bento_selfheal.packaging.training import Training
from bento_selfheal.simulation.server import ServedService
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows

pytestmark = pytest.mark.slow
BENCHMARKS = str(ROOT / "benchmarks")
HOST = "bento_selfheal.candidates.host"


def made(name: str, rows: int, epochs: int, kind: str = "") -> Package:
    """A package trained on some clean rows; odd as a candidate where ``kind`` says so."""
    table = article_rows(rows, 0.0, np.random.default_rng(5))
    odd = {"builder": "odd_candidates:odd", "builder_args": {"features": 10, "kind": kind}}
    return package_model(
        name, table.rows, table.labels, features=ARTICLE_FEATURES,
        training=Training(epochs=epochs), seed=3, **(odd if kind else {}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(home, tmp_path_factory) -> Iterator[ServedService]:  # type: ignore[no-untyped-def]
    """A service of a model that has learned little, on rows that have moved."""
    folder = tmp_path_factory.mktemp("candidates")
    env = {
        **BRISK, "SELFHEAL_MODEL": made("weak", 200, 1).tag,
        "SELFHEAL_STATE_DIR": str(folder / "state"), "SELFHEAL_WORKERS": "2",
        "SELFHEAL_CANARY": "30", "SELFHEAL_TUNING__CANARY_LABELS": "100",
        "PYTHONPATH": f"{ROOT}{os.pathsep}{BENCHMARKS}",
    }  # fmt: skip
    with ServedService(
        "service:SelfHealing", home=home, log=folder / "server.log", cwd=ROOT, env=env
    ) as server:
        yield server


@pytest.fixture
def client(server: ServedService) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def of_candidates(server: ServedService) -> list[psutil.Process]:
    """The processes of candidates below a server: forks of a host."""
    return [fork for host in processes(server, HOST) for fork in processes_below(host)]


def processes_below(process: psutil.Process) -> list[psutil.Process]:
    """The children of a process, which may just have ended."""
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


class Traffic:
    """Asks and labels, as fast as the runner learns; every answer must come."""

    def __init__(self, client: Client, drift: float = 0.0) -> None:
        self._client = client
        self._drift = drift
        self._generator = np.random.default_rng(9)
        self._model, self._sent = self._learned()
        self.answered_by: set[str | None] = set()

    def batch(self) -> None:
        """Forty requests of five rows each, and their labels; returns once they are learned."""
        table = article_rows(200, self._drift, self._generator)
        for at in range(0, 200, 5):
            said = self._client.predict(table.rows[at : at + 5].tolist())
            self.answered_by.add(said.candidate)
            self._client.feedback(
                {"prediction_id": i, "label": int(y)}
                for i, y in zip(said.prediction_ids, table.labels[at : at + 5], strict=True)
            )
        self._sent += 200
        wait_for(self._has_learned, "the labels are learned")

    def _has_learned(self) -> bool:
        model, joined = self._learned()
        if model != self._model:  # it began anew
            self._model, self._sent = model, joined
        return joined > self._sent - 100

    def _learned(self) -> tuple[str, int]:
        status = self._client.status()
        return status["model"], status["labels"]["joined"]

    def until(self, tag: str, state: str, seconds: float = 120.0) -> dict[str, Any]:
        """Go on until a candidate stands there; what is shown of it then."""

        def stands() -> dict[str, Any] | None:
            self.batch()
            one = candidate(self._client, tag)
            assert one["state"] in (state, "running", "won"), one
            return one if one["state"] == state else None

        found: dict[str, Any] = wait_for(stands, f"{tag} {state}", seconds)
        return found


def candidate(client: Client, tag: str) -> dict[str, Any]:
    """What is shown of a candidate."""
    [one] = [c for c in client.candidates() if c["tag"] == tag]
    return one


def test_a_better_one_is_promoted_and_heals_and_a_worse_one_is_withdrawn(
    server: ServedService, client: Client
) -> None:
    """The better one answers its share, by its tag, serves once labels have proven it better, and
    heals; the model that served before it is worse than what it has healed to."""
    tag, weak = made("strong", 5000, 10).tag, client.status()["model"]
    with pytest.raises(CommandError, match="no such model"):
        client.begin_candidate("nobody:1")
    client.begin_candidate(tag, ramp=[0, 50, 100], min_labels=50)
    with pytest.raises(CommandError, match="already"):
        client.begin_candidate(tag)
    wait_for(lambda: "answered" in candidate(client, tag)["counts"], "its process works")
    traffic = Traffic(client)
    shown = traffic.until(tag, "promoted")
    assert shown["evidence"]["labels"] >= 100
    assert traffic.answered_by >= {tag, None}
    wait_for(lambda: client.status()["model"] == tag, f"{tag} serves")
    kinds = [event.kind for event in client.events(limit=1000)]
    assert {"candidate_begun", "candidate_step", "candidate_won", "candidate_promoted"} <= set(
        kinds
    )
    moved = Traffic(client, drift=2.2)

    def healed() -> bool:
        moved.batch()
        return bool(client.status()["promotions"])

    wait_for(healed, f"a healed line of {tag}", 120)
    assert client.status()["model"] == tag
    wait_for(lambda: not of_candidates(server), "no process is left")
    client.begin_candidate(weak, ramp=[0, 100], min_labels=100_000)
    wait_for(lambda: "answered" in candidate(client, weak)["counts"], "its process works")
    assert moved.until(weak, "withdrawn")["reason"].startswith("loss higher by")


@pytest.mark.parametrize(
    ("kind", "ramp", "why"),
    [
        ("raise", [50, 100], "failed .* RuntimeError: no answer today"),
        ("nan", [50, 100], "failed .* no probability"),
        ("hang", [50, 100], "did not answer .* in time"),
        ("leak", [0, 100], "took too much memory"),
    ],
    ids=["raise", "nan", "hang", "leak"],
)
def test_odd_candidates_are_withdrawn(
    client: Client, kind: str, ramp: list[float], why: str
) -> None:
    """A candidate that raises, answers NaN, hangs or eats memory fails no request, and goes."""
    # As good as what serves: labels must not withdraw it before its oddity does.
    tag = made(f"odd-{kind}", 5000, 10, kind).tag
    client.begin_candidate(tag, ramp=ramp, min_labels=5000)
    shown = Traffic(client).until(tag, "withdrawn")
    assert shown["share"] == 0.0
    assert re.search(why, shown["reason"]), shown


def test_by_hand(server: ServedService, client: Client) -> None:
    """An operator withdraws or promotes a candidate at any time, whatever the evidence."""
    tag, env = made("other", 400, 1).tag, {**os.environ, "BENTO_SELFHEAL_URL": server.url}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=env
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "answers copies of live rows" in run("candidate", tag, "--ramp", "0,100")
    assert "answers 0%" in run("candidates")
    run("candidate", tag, "--withdraw")
    assert candidate(client, tag)["state"] == "withdrawn"
    with pytest.raises(CommandError, match="no candidate on its ramp"):
        client.end_candidate(tag)
    began = client.begin_candidate(tag)
    run("candidate", tag, "--promote")
    wait_for(lambda: client.status()["model"] == tag, f"{tag} serves")

    def standing() -> str:
        [one] = [c for c in client.candidates() if c["id"] == began["id"]]
        return f"{one['state']} by {one['by']}"

    wait_for(lambda: standing() == "promoted by operator", "it is promoted")


def asked_of(server: ServedService, keys: range) -> dict[int, int]:
    """The version that answers each key; every few of them over another connection."""
    row = article_rows(1, 0.0, np.random.default_rng(4)).rows
    found: dict[int, int] = {}
    for at in range(keys.start, keys.stop, 10):
        with Client(server.url) as client:
            for key in range(at, min(at + 10, keys.stop)):
                found[key] = client.predict(row, keys=[f"canary-{key}"]).model_version
    return found


def canary_of_a_worker(server: ServedService) -> dict[str, Any] | None:
    with Client(server.url) as client:
        found: dict[str, Any] | None = client.status()["worker"]["canary"]
        return found


def test_a_healed_snapshot_answers_a_share_first(server: ServedService, client: Client) -> None:
    """Each worker gives the canary the same 30 % of the keys, also after kill -9 of a worker and of
    the runner; an operator ends it within a second on all workers, and the next one answers all
    once its labels came."""
    traffic = Traffic(client, drift=2.2)

    def canary() -> dict[str, Any] | None:
        traffic.batch()
        found: dict[str, Any] | None = client.status()["canary"]
        return found

    first = wait_for(canary, "a canary", 120)
    serving = client.status()["serving"]["version"]
    wait_for(lambda: all(canary_of_a_worker(server) for _ in range(8)), "the workers follow")
    answered = asked_of(server, range(300))
    assert set(answered.values()) == {serving, first["version"]}
    assert 60 < list(answered.values()).count(first["version"]) < 120
    assert asked_of(server, range(300)) == answered, "always the same keys"
    assert "selfheal_canary_share_ratio 0.3" in httpx.get(f"{server.url}/metrics").text
    for service in ("HealingRunner", "SelfHealing"):
        killed = processes(server, service)[0]
        killed.kill()
        wait_for(lambda: not killed.is_running(), f"{service} is dead")  # noqa: B023
    wait_for(lambda: client.status()["runner_alive"], "another runner leads")
    wait_for(lambda: len(processes(server, "SelfHealing")) == 2, "another worker")
    assert client.status()["canary"]["version"] == first["version"]
    wait_for(lambda: asked_of(server, range(300)) == answered, "the same keys after kill -9")
    own = [key for key, version in answered.items() if version == first["version"]]
    assert client.rollback().version == serving
    began = time.monotonic()
    while first["version"] in asked_of(server, range(own[0], own[0] + 20)).values():
        assert time.monotonic() - began < 1.0
    assert set(asked_of(server, range(300)).values()) == {serving}
    second = wait_for(lambda: canary() if client.status()["canary"] is None else None, "another",
                      120)  # fmt: skip
    assert second["version"] > first["version"]

    def all_later() -> bool:
        traffic.batch()
        return bool(client.status()["serving"]["version"] >= second["version"])

    wait_for(all_later, "it answers all", 120)
    kinds = [p.kind.value for p in client.promotions() if p.version == second["version"]]
    assert kinds[:2] == ["canary", "promote"]


def test_its_process_ends_with_the_worker_that_keeps_it(
    server: ServedService, client: Client
) -> None:
    """Killed, a worker leaves no process behind, and another one takes over."""
    tag = made("spare", 400, 1).tag
    client.begin_candidate(tag, ramp=[0, 100])
    [process] = wait_for(lambda: of_candidates(server), "its process")
    host = process.parent()
    assert host is not None
    keeper = host.parent()
    assert keeper is not None
    keeper.kill()
    wait_for(lambda: not process.is_running(), "its process has ended")
    wait_for(lambda: not host.is_running(), "so has the host")
    wait_for(lambda: of_candidates(server), "another worker keeps it")
    client.end_candidate(tag)
    wait_for(lambda: not of_candidates(server), "no process is left")


def test_candidates_are_forks_of_one_host(server: ServedService, client: Client) -> None:
    """They share what it has loaded, and its end ends none that cannot be ended any more."""
    tags = [made(name, 400, 1).tag for name in ("left", "right")]
    for tag in tags:
        client.begin_candidate(tag, ramp=[0, 100])
    both = wait_for(lambda: len(of_candidates(server)) == 2 and of_candidates(server), "both")
    assert [p.ppid() for p in both] == [processes(server, HOST)[0].pid] * 2

    def shared() -> bool:
        return all(p.memory_full_info().uss < p.memory_info().rss / 2 for p in both)

    wait_for(shared, "most of their memory is the host's")
    processes(server, HOST)[0].kill()
    third = made("third", 400, 1).tag
    client.begin_candidate(third, ramp=[0, 100])
    wait_for(lambda: of_candidates(server), "another host has begun it")
    for tag in (*tags, third):
        client.end_candidate(tag)
    wait_for(lambda: not any(p.is_running() for p in (*both, *of_candidates(server))), "no process")
