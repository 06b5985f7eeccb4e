"""The end of a test run says which tests were not run, and how to run them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
TESTS = """
import pytest

def test_quick(): pass

@pytest.mark.slow
@pytest.mark.parametrize("n", range(3))
def test_slow(n): pass

@pytest.mark.skipif(True, reason="no database: `apt-get install postgresql`")
@pytest.mark.parametrize("n", range(2))
def test_stored(n): pass

def test_seen():
    pytest.skip("no browser: `apt-get install chromium`")
"""
CONFIG = "[pytest]\naddopts = -m 'not slow'\nmarkers = slow: takes minutes\n"
PARALLEL = pytest.param(
    ("-n", "2"),
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(
            importlib.util.find_spec("xdist") is None,
            reason="pytest-xdist is not installed: `pip install pytest-xdist`",
        ),
    ],
    id="in two workers",
)


def summary(folder: Path, *arguments: str) -> list[str]:
    """The lines about tests that were not run."""
    (folder / "test_small.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "pytest", "-p", "not_run", *arguments]
    done = subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": ":".join([str(SUPPORT), *sys.path])},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, end = done.stdout.partition("= tests that were not run =")
    return [line for line in end.splitlines() if line and not line.startswith("=")]


@pytest.mark.parametrize("arguments", [pytest.param((), id="in one process"), PARALLEL])
def test_what_was_left_out_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Skips are grouped by their reason, which says what is missing and how to get it; slow tests
    are counted, and the command that runs them is named."""
    assert summary(tmp_path, *arguments) == [
        "2 skipped: no database: `apt-get install postgresql`",
        "1 skipped: no browser: `apt-get install chromium`",
        "3 slow: run them with `make test-slow`",
    ]


def test_nothing_is_said_where_all_was_run(tmp_path: Path) -> None:
    """A run of everything that was asked for, by name or by marker, prints no such section."""
    assert summary(tmp_path, "-m", "slow") == []
    assert summary(tmp_path, "-k", "quick", "-m", "") == []
