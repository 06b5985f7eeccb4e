"""The README's commands on a table, typed word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import COMMAND
from conftest import BRISK, ROOT

ROWS = 1000
LINES = re.findall(r"^\$ bento-selfheal (.*?)(?:\s+#.*)?$", (ROOT / "README.md").read_text(), re.M)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the table that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    generator = np.random.default_rng(3)
    left = generator.random(ROWS) < 0.3
    visits = generator.poisson(np.where(left, 0.5, 6.0))
    age, balance = generator.normal(45, 12, ROWS), generator.gamma(2, 1500, ROWS)
    table = np.column_stack([age, balance, visits, left])
    np.savetxt(folder / "churn.csv", table, "%.3f", ",", header="age,balance,visits,left",
               comments="")  # fmt: skip
    return folder


@pytest.mark.slow
def test_there_are_commands() -> None:
    """Or the next test would try nothing."""
    assert {line.split()[0] for line in LINES} == {
        "init", "suggest", "package", "replay", "backtest",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_command(folder: Path, line: str) -> None:
    """It ends with exit code 0 and says something."""
    env = {**os.environ, "BENTOML_HOME": str(folder / "home"), **BRISK}
    done = subprocess.run(
        [*COMMAND, *shlex.split(line)],
        cwd=folder, env=env, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-ROWS:]
    assert done.stdout.strip()
