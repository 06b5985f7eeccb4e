"""The `bento-selfheal` command: how to start it, and one that is ended with all that it started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from conftest import BRISK

COMMAND = [sys.executable, "-c", "from bento_selfheal.cli.main import main; main()"]


def run(*arguments: str, cwd: Path, seconds: float = 280) -> str:
    """What a command prints; it must end by itself with exit code 0."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | BRISK,
    )  # fmt: skip
    try:
        printed, complained = process.communicate(timeout=seconds)
    except BaseException:
        for started in psutil.Process(process.pid).children(recursive=True):
            started.kill()
        process.kill()
        raise
    assert process.returncode == 0, complained[-2000:]
    return printed
