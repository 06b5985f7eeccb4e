"""`/readyz` and `/livez` mean it; what they say of a dead runner is in test_crash."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from conftest import ROOT, wait_for
from heavy import call_ms, package_deep, probes_ms
from live import Client, ready, served, unready

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.deploy import prepare
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.packaging.model_store import model_folder
from bento_selfheal.packaging.package import Package
from bento_selfheal.simulation.server import ServedService

PASSES = 60
"""Through the layers of a heavy model: a call takes some 200 ms."""

# The user's service, with a way to lose a thread.
FRAIL = """
    @bentoml.api
    def stop_following(self) -> None:
        self._models.current.worker.follower.thread.stop()
"""


@pytest.mark.slow
def test_not_ready_before_an_adapter_verifies(home: Path, package: Package, tmp_path: Path) -> None:
    """With its only adapter damaged a server does not get ready and says why; with the adapter
    mended it does, without a restart."""
    settings = Settings(model=package.tag, state_dir=tmp_path / "state")
    prepare(settings)
    with closing(open_store(settings)) as store:
        [initial] = store.promotions()
    file = model_folder(initial.tag) / "adapter.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    why = "no promotion in the log verifies"
    with unready(home, package, tmp_path, why, workers=1) as server, Client(server) as client:
        file.write_bytes(whole)
        wait_for(lambda: ready(server), "ready once the adapter is mended")
        assert client.predict([[0.0] * 10])["model_version"] == 1


@pytest.mark.slow
def test_a_worker_without_its_threads_asks_for_a_restart(
    home: Path, package: Package, tmp_path: Path
) -> None:
    """A worker that follows no promotions any more answers, but says that it is not alive."""
    (tmp_path / "service.py").write_text((ROOT / "service.py").read_text() + FRAIL)
    env = {"SELFHEAL_MODEL": package.tag, "SELFHEAL_STATE_DIR": str(tmp_path / "state"),
           "SELFHEAL_WORKERS": "1", "PYTHONPATH": str(ROOT)}  # fmt: skip
    with ServedService(
        "service:SelfHealing", home=home, log=tmp_path / "server.log", cwd=tmp_path, env=env
    ) as server:
        assert httpx.get(f"{server.url}/livez", timeout=5).status_code == 200
        with Client(server) as client:
            client.ask("/stop_following")
            assert len(client.predict([[0.0] * 10])["prediction_ids"]) == 1
        assert httpx.get(f"{server.url}/livez", timeout=5).status_code == 503


@pytest.mark.slow
def test_nobody_waits_for_a_heavy_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While 64 clients ask one worker whose model takes hundreds of milliseconds a call, half of
    `/livez` and of `/feedback` take less than a call, and no `/livez` a queue of them.

    The slowest is a figure of `benchmarks/serving.py`: here, the machine does other work as well.
    """
    folders = [str(ROOT), str(ROOT / "benchmarks")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))  # the server builds the model, too
    deep, call = package_deep(PASSES), call_ms(PASSES, 1)
    row = json.dumps({"rows": [[0.1] * 10]}).encode()
    with served(home, deep, tmp_path, workers=1) as server:
        found = probes_ms(server.port, row, probes=60)
    assert found["livez_p50_ms"] < call / 2
    assert found["livez_slowest_ms"] < 5 * call
    assert found["feedback_p50_ms"] < call
