"""The whole circle on a real server: the world changes, heals are not enough, a webhook starts the
retraining, and the new model earns its place by the labels that come after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, wait_for
from live import Client, served
from receiver import SECRET, Receiver, is_genuine

from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = ROOT / "examples" / "retrain" / "retrain.py"
BATCH = 200
SECONDS = 180.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver


@pytest.fixture
def server(
    home: Path, package: Package, tmp_path: Path, receiver: Receiver
) -> Iterator[ServedService]:
    """A service whose heals are cheap, and soon judged not to be enough."""
    hook = {"name": "pipeline", "url": receiver.url, "kinds": ["retrain_needed"], "secret": SECRET}
    with served(
        home, package, tmp_path, workers=1, webhooks=json.dumps([hook]), retrain_batches=15,
        replay_rate=0.01,
    ) as server:  # fmt: skip
        yield server


class World:
    """Rows whose labels follow a law that the packaged model has never seen."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._generator = np.random.default_rng(3)

    def batch(self) -> dict[str, Any]:
        """A batch with its labels; the status once they are learned."""
        rows = self._generator.normal(size=(BATCH, 10)).astype(np.float32)
        labels = (rows[:, 0] * rows[:, 1] > 0).astype(int).tolist()
        before = self._joined()
        for at in range(0, BATCH, 20):  # a candidate sees requests, not rows
            ids = self._client.predict(rows[at : at + 20].tolist())["prediction_ids"]
            self._client.label(ids, labels[at : at + 20])
        wait_for(lambda: not before <= self._joined() < before + BATCH, "the labels are learned")
        return dict(self._client.read("/status"))

    def _joined(self) -> int:
        return int((self._client.read("/status").get("labels") or {}).get("joined", 0))


def test_whole_circle(
    server: ServedService, home: Path, package: Package, receiver: Receiver
) -> None:
    """From the change of the world to the promotion of what was retrained on it, nobody has to do
    anything but run the script that the webhook names the rows to."""
    with Client(server) as client:
        world = World(client)
        wait_for(lambda: world.batch()["state"] == "RETRAIN_NEEDED", "a retraining", SECONDS)
        for _ in range(5):
            world.batch()
        told = wait_for(lambda: receiver.taken, "the webhook")[0]
        assert is_genuine(told)
        environment = {**os.environ, "BENTOML_HOME": str(home), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, SCRIPT, "-", "--url", server.url], input=told.raw,
            capture_output=True, env=environment, timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        tag = done.stdout.decode().splitlines()[-1]
        assert client.read("/status")["model"] == package.tag
        wait_for(lambda: world.batch()["model"] == tag, "the retrained model serves", SECONDS)
        wait_for(lambda: client.events("candidate_promoted"), "its event")
        kinds = [e["kind"] for e in client.read("/events?limit=10000")]
        order = ["heal", "retrain_needed", "candidate_begun", "candidate_promoted"]
        assert sorted(order, key=kinds.index) == order
