"""The runner stands back: as a process and as a session, and after each heal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
from bento_selfheal.runner.pacing import AUTOGROUP, stand_back
stand_back(7)
print(os.getpriority(os.PRIO_PROCESS, 0), AUTOGROUP.read_text() if AUTOGROUP.exists() else "")
"""


@pytest.mark.parametrize("own_session", [True, False])
def test_stand_back(own_session: bool) -> None:
    """Its niceness rises; its session's too, but only where the session is its own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True, text=True, check=True, start_new_session=own_session,
    )  # fmt: skip
    priority, _, autogroup = done.stdout.strip().partition(" ")
    assert int(priority) == min(os.getpriority(os.PRIO_PROCESS, 0) + 7, 19)
    if Path("/proc/self/autogroup").exists():
        assert autogroup.endswith(f"nice {priority}") is own_session


def test_load_optimizer() -> None:
    """What heals load later, they find loaded."""
    code = """
import sys
import torch
from bento_selfheal.runner.pacing import load_optimizer
load_optimizer()
before = set(sys.modules)
weight = torch.nn.Parameter(torch.zeros(2))
optimizer = torch.optim.Adam([weight], fused=True)
optimizer.zero_grad()
weight.sum().backward()
optimizer.step()
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
