"""The hand-over: a retrain is needed, a webhook says so, a script retrains, its model serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from deployed import Deployed
from receiver import SECRET as KEY
from receiver import Receiver, is_genuine
from rigs import drifting
from steps import BATCH, LAZY, send

from bento_selfheal.config.settings import Settings
from bento_selfheal.deployment.replacing import replace_package
from bento_selfheal.packaging.package import Package

SCRIPT = ROOT / "examples" / "retrain" / "retrain.py"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver


def test_from_the_event_to_a_new_model(
    package: Package, home: Path, tmp_path: Path, receiver: Receiver
) -> None:
    """Once healing is not enough, a receiver is told where the labelled rows lie; the script makes
    a package of them that takes the place of the one that serves."""
    hook = {"name": "pipeline", "url": receiver.url, "kinds": ["retrain_needed"], "secret": KEY}
    settings = Settings(
        model=package.tag, state_dir=tmp_path / "state", batch_size=BATCH, replay_rate=LAZY,
        lease_seconds=60, webhooks=[hook], retrain_batches=4,
    )  # fmt: skip
    service = Deployed(settings)
    runner = service.runner()
    runner.step()
    [telling] = runner._tasks._webhooks._hooks
    telling.look()
    rows, _ = drifting(clean=0, drifted=600)
    labels = np.random.default_rng(0).integers(0, 2, len(rows))
    send(service.worker, rows, labels, drain=runner)
    assert service.store.status()["state"] == "RETRAIN_NEEDED"
    telling.look()
    [told] = receiver.taken
    assert is_genuine(told)
    assert Path(told.body["data"]["export"]).is_file()
    environment = {**os.environ, "BENTOML_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, SCRIPT, "-"], input=told.raw, capture_output=True, env=environment,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    tag = done.stdout.decode().splitlines()[-1]
    assert tag.split(":")[0] == package.tag.split(":")[0] != tag
    assert replace_package(settings, tag) == (tag, True)
    runner.step()
    assert service.store.status()["model"] == tag
    assert service.store.verify_audit().broken == 0
    assert [e.act for e in service.store.audit()] == ["deploy", "webhook", "deploy"]
    service.close()


def test_an_event_of_another_kind(tmp_path: Path) -> None:
    """Whatever is no such event is refused in one line."""
    (tmp_path / "event.json").write_text(json.dumps({"type": "heal", "data": {}}))
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "event.json"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().endswith("this is no event of the kind retrain_needed")
