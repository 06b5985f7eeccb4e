"""The whole circle on a real server: drift, heal, retrain needed, retrain, candidate, promoted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import BRISK, ROOT, wait_for
from numpy.typing import NDArray

from bento_selfheal.client.client import Client
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.training import Training
from bento_selfheal.simulation.server import ServedService

SCRIPT = ROOT / "examples" / "retrain" / "retrain.py"
FEATURES = ["a", "b", "c", "d"]
BATCH = 20


def drawn(
    generator: np.random.Generator, rows: int, *, turned: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Rows whose label is the sign of the first input, then that of the product of three: a small
    adapter over a network that has learned the one cannot say the other."""
    drawn = generator.normal(size=(rows, len(FEATURES))).astype(np.float32)
    sign = drawn[:, 0] * drawn[:, 1] * drawn[:, 2] if turned else drawn[:, 0]
    return drawn, (sign > 0).astype(np.int64)


class Labelled:
    """Asks and labels, no faster than the runner learns."""

    def __init__(self, client: Client) -> None:
        self._client, self._generator = client, np.random.default_rng(4)

    def send(self, requests: int = 20) -> dict[str, Any]:
        """So many requests of turned rows, with their labels; the status once they are learned."""
        begun, model = self._joined()
        for _ in range(requests):
            rows, labels = drawn(self._generator, BATCH, turned=True)
            said = self._client.predict(rows)
            self._client.feedback(
                {"prediction_id": i, "label": int(y)}
                for i, y in zip(said.prediction_ids, labels, strict=True)
            )
        # Whole batches are learned; where another model serves, its log begins anew.
        most = begun + requests * BATCH - 100
        wait_for(lambda: self._joined()[0] > most or self._joined()[1] != model, "labels learned")
        return self._client.status()

    def _joined(self) -> tuple[int, str]:
        status = self._client.status()
        return status["labels"]["joined"], status["model"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_whole_circle(home: Path, tmp_path: Path) -> None:
    """Healing helps but stays far from what is asked; the service says so and where the labelled
    rows lie; what the script trains on them goes in as a candidate, and serves once it has proven
    itself against the healed champion."""
    rows, labels = drawn(np.random.default_rng(1), 2000, turned=False)
    package = package_model(
        "circle", rows, labels, features=FEATURES, training=Training(epochs=6), seed=1
    )
    env = {
        **BRISK, "SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(tmp_path / "state"),
        "SELFHEAL_WORKERS": "1", "SELFHEAL_RETRAIN_BATCHES": "40",
    }  # fmt: skip
    with (
        ServedService(
            "service:SelfHealing", home=home, log=tmp_path / "server.log", cwd=ROOT, env=env
        ) as server,
        Client(server.url) as client,
    ):
        labelled = Labelled(client)
        wait_for(lambda: labelled.send()["state"] == "RETRAIN_NEEDED", "a retrain is needed", 150)
        assert client.status()["promotions"]
        done = subprocess.run(
            [sys.executable, SCRIPT, "--url", server.url], capture_output=True, text=True,
            env={**os.environ, "BENTOML_HOME": str(home), "PYTHONPATH": str(ROOT)}, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        tag = done.stdout.splitlines()[-1]
        wait_for(lambda: labelled.send()["model"] == tag, f"{tag} has proven itself", 200)
        kinds = [event.kind for event in client.events(limit=10_000)]
        asked = ["drifting", "heal", "retrain_needed", "candidate_begun", "candidate_promoted"]
        assert [kind for kind in dict.fromkeys(kinds) if kind in asked] == asked
