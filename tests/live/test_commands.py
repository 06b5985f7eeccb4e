"""The commands that start a real server by themselves, as a user types them."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
from commands import COMMAND, run
from elec2 import ELEC2, needs_elec2

LIFT = re.compile(r"lift ([+-]\d\.\d+) \[([+-]\d\.\d+), ([+-]\d\.\d+)\]")
ELEC2_LINES = 8_001


def lift_of(printed: str) -> tuple[float, float, float]:
    found = LIFT.search(printed)
    assert found, printed[-1000:]
    mean, low, high = (float(v) for v in found.groups())
    return mean, low, high


@pytest.mark.slow
def test_demo_heals_and_ends(tmp_path: Path) -> None:
    """`demo` prints a line a batch and a summary in which healing has won; it needs nothing
    in the folder that it is started in, and leaves its store to look at."""
    printed = run("demo", "--batches", "12", "--clean", "2", "--home", "home", cwd=tmp_path)
    lines = [line for line in printed.splitlines() if re.match(r"\s+\d+\s+[A-Z_]+\s", line)]
    assert len(lines) == 12
    assert "DRIFTING" in printed
    assert "promote" in printed
    assert re.search(
        r"with the same \d+ alarms, .* of 180 frauds, and what was served \d+", printed
    )
    mean, low, high = lift_of(printed)
    assert low < mean < high
    assert mean > 0.1
    assert (tmp_path / "home" / "selfheal" / "selfheal-demo" / "selfheal.db").exists()


@pytest.mark.slow
def test_a_demo_that_is_ended_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGTERM, as `timeout` or an IDE sends it, ends the demo's server with it."""
    with subprocess.Popen(
        [*COMMAND, "demo", "--home", "home"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        started: list[psutil.Process] = []
        try:
            for line in demo.stdout:
                if line.startswith("ready at"):
                    started = psutil.Process(demo.pid).children(recursive=True)
                    demo.terminate()
            assert demo.wait(60) == 128 + signal.SIGTERM
            assert len(started) > 2
            assert psutil.wait_procs(started, 10)[1] == []
        finally:
            for process in [demo, *started]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.mark.slow
def test_replay_of_a_users_stream(tmp_path: Path) -> None:
    """`replay` trains on the first part of a CSV, serves it, streams the rest, and prints the
    lift with its interval; a class that turns round is healed."""
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(1200, 3)) * [1, 100, 5000] + [0, 50, 20000]
    sign = np.where(np.arange(1200) < 480, 1, -1)
    labels = np.where(rows[:, 0] * sign > 0, "leave", "stay")
    lines = [",".join(f"{v:.4f}" for v in row) for row in rows.tolist()]
    body = "\n".join(f"{line},{label}" for line, label in zip(lines, labels, strict=True))
    (tmp_path / "stream.csv").write_text("age,visits,balance,churn\n" + body + "\n")
    printed = run(
        "replay", "stream.csv", "--label", "churn", "--train-fraction", "0.25", cwd=tmp_path
    )
    assert lift_of(printed)[0] > 0.2


@pytest.mark.slow
def test_replay_where_one_class_is_never_reported(tmp_path: Path) -> None:
    """Labels that wait for their rows to be old enough keep nobody waiting, and those of the class
    that is never reported do not come: the stream ends."""
    rows = np.random.default_rng(5).normal(size=(500, 2))
    lines = [f"{a:.4f},{b:.4f},{'leave' if a > 0 else 'stay'}" for a, b in rows.tolist()]
    (tmp_path / "stream.csv").write_text("age,visits,churn\n" + "\n".join(lines) + "\n")
    printed = run(
        "replay", "stream.csv", "--label", "churn", "--train-fraction", "0.4", "--every", "1",
        "--unreported", "stay,1h", cwd=tmp_path,
    )  # fmt: skip
    assert len(re.findall(r"(?m)^\s+\d+\s+[A-Z_]+\s", printed)) == 3
    assert "0 heals" in printed  # no row was old enough


@pytest.mark.long
@pytest.mark.slow
@needs_elec2
def test_replay_of_elec2(tmp_path: Path) -> None:
    """On 8,000 rows of Elec2, trained on the first tenth, healing ends with a lift above 0."""
    with ELEC2.open() as whole:
        (tmp_path / "elec.csv").write_text("".join(islice(whole, ELEC2_LINES)))
    printed = run("replay", "elec.csv", "--label", "class", cwd=tmp_path, seconds=280)
    mean, low, high = lift_of(printed)
    assert low < mean < high
    assert mean > 0
