"""A recorded run, done again: promotions and adapters are the same to the bit.

`fixtures/record_run.py` says what was recorded, and by which release. Whatever is changed on
purpose about what is learned or promoted needs a new recording; all else must leave this alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.timeout(600)

FIXTURES = Path(__file__).parents[1] / "fixtures"
ARCHIVE = FIXTURES / "run-0012.tar.xz"
PROBE = "e9297f49bd08d60195c3ee3250bad828d058732b80525a649516a62df28f60e8"
"""What a little training came to where the run was recorded."""
ROUNDING = 1e-3
"""Largest difference of weights that rounding alone adds up to over the run."""


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What was recorded."""
    with tarfile.open(ARCHIVE) as tar:
        file = tar.extractfile("facts.json")
        assert file is not None
        recorded: dict[str, Any] = json.load(file)
    return recorded


@pytest.fixture(scope="module")
def found(facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of it this time, in a process that takes sums in the recorded order."""
    folder = tmp_path_factory.mktemp("replay")
    command = [sys.executable, str(FIXTURES / "replay_run.py"), str(ARCHIVE), str(folder)]
    done = subprocess.run(
        command, env={**os.environ, **facts["environment"]}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    replayed: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return replayed


@pytest.mark.parametrize("begin", ["start", "half"])
def test_same_bits(facts: dict[str, Any], found: dict[str, Any], begin: str) -> None:
    """From an empty store, and from the checkpoint that the recording release wrote half way, come
    the recorded promotions, operators' among them, and every snapshot's recorded adapter."""
    now = found[begin]
    promotions = [[p["kind"], p["version"], p["sha256"]] for p in facts["promotions"]]
    snapshots = [[s["version"], s["phase"], s["heal"], s["sha256"]] for s in facts["snapshots"]]
    how = how_far(facts, now, snapshots)
    assert [p[:2] for p in now["promotions"]] == [p[:2] for p in promotions], how
    if found["probe"] != PROBE:
        # Another processor or another torch rounds differently, whatever the release does.
        assert max(d for d in now["apart"].values() if d == d) < ROUNDING, how
        return
    assert now["promotions"] == promotions, how
    assert now["snapshots"] == snapshots, how
    assert now["counts"] == facts["counts"]


def how_far(facts: dict[str, Any], now: dict[str, Any], snapshots: list[Any]) -> str:
    """Where it first went another way, and how far: rounding, or another thing learned."""
    pairs = zip(now["snapshots"], snapshots, strict=False)
    other = next((f"snapshot {then[0]}" for new, then in pairs if new != then), "none of them")
    apart = ", ".join(f"{v}: {d:.1e}" for v, d in now["apart"].items())
    return (
        f"first to differ: {other}; largest difference of weights by promoted version: {apart}; "
        f"recorded with torch {facts['torch']}, this is {torch.__version__}"
    )
