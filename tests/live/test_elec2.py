"""The example on real data: the script runs, and the notebook is the script with its output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from conftest import BRISK, ROOT
from elec2 import ELEC2, needs_elec2
from nbclient import NotebookClient

FOLDER = ROOT / "examples" / "elec2"
ROWS = "1600"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=580, env=os.environ | BRISK
    )


def printed_by(notebook: Any) -> str:
    """What all cells printed."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return "".join(out.text for out in outputs if out.output_type == "stream")


def lift_of(printed: str) -> float:
    found = re.search(r"lift ([+-]\d\.\d+)", printed)
    assert found, printed
    return float(found[1])


def test_says_where_the_data_is(tmp_path: Path) -> None:
    """Without the file the script ends and says what to download and from where."""
    done = run("nowhere.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere.csv does not exist" in done.stderr
    assert "scikit-multiflow/streaming-datasets" in done.stderr


def test_the_notebook_is_the_script() -> None:
    """Cell for cell the committed notebook is what jupytext makes of the script, and it was run on
    the whole stream."""
    made = jupytext.read(FOLDER / "run.py")
    kept = nbformat.read(FOLDER / "run.ipynb", as_version=4)
    assert [(c.cell_type, c.source) for c in kept.cells] == [
        (c.cell_type, c.source) for c in made.cells
    ]
    assert all(c.execution_count for c in kept.cells if c.cell_type == "code")
    assert "promotions" in printed_by(kept)
    assert not [out for cell in kept.cells for out in cell.get("outputs", [])
                if out.output_type == "error"]  # fmt: skip
    assert lift_of(printed_by(kept)) > 0


@needs_elec2
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_runs(tmp_path: Path) -> None:
    """On the first part of the stream it prints accuracies, the lift and why snapshots serve."""
    done = run(str(ELEC2), ROWS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(re.findall(r"^ +\d+ to +\d+", done.stdout, re.MULTILINE)) == 8
    assert lift_of(done.stdout) > -0.1
    assert "snapshot 1, initial" in done.stdout


@pytest.mark.long  # the script, which CI runs, does the same
@needs_elec2
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook runs from its first to its last cell in a fresh kernel."""
    monkeypatch.setenv("ELEC2", str(ELEC2))
    monkeypatch.setenv("ELEC2_ROWS", ROWS)
    notebook = nbformat.read(FOLDER / "run.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    there = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=580, kernel_name="python3", resources=there).execute()
    assert lift_of(printed_by(notebook)) > -0.1
