"""The runner stands back: as a process and as a session, and after each heal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os
from bento_selfheal.runner.pacing import AUTOGROUP, Pace
Pace(7).stand_back()
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


CLAIMING = """
import os
from bento_selfheal.runner import pacing
pace = pacing.Pace(12)
pace.stand_back()
shares = iter([0.5, 0.03, 0.03, None, None, 0.02])
pace._time.share = lambda: next(shares)
for busy in (True, True, True, False, False, False):
    pace.works("a", busy)
    pace.works("b", False)
    pace.keep()
    print(pacing.AUTOGROUP.read_text().split()[-1], pace.state()["raised"])
"""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no scheduling groups")
def test_a_starved_runner_claims_more() -> None:
    """While it has work and gets next to nothing, its session stands back less; not for long after
    it has caught up, nor without work."""
    done = subprocess.run(
        [sys.executable, "-c", CLAIMING],
        capture_output=True, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    back, raised = str(min(usual + 12, 19)), str(min(usual + 5, 19))
    assert done.stdout.split("\n")[:-1] == [
        f"{back} False", f"{raised} True", f"{raised} True", f"{back} False", f"{back} False",
        f"{back} False",
    ]  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the system does not count")
def test_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that want one core each get about half of it, and know it; an idle one wants
    nothing."""
    code = """
import os, sys, time
from bento_selfheal.runner import pacing
pacing.WINDOW_SECONDS = 0.2
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
taken = pacing.ProcessorTime()
taken.share()
until = time.monotonic() + 3
while "idle" not in sys.argv and time.monotonic() < until:
    pass
time.sleep(0.3)
print(taken.share())
"""

    def started(*args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True
        )

    both = [started(), started()]
    shares = [float(one.communicate(timeout=60)[0]) for one in both]
    assert max(shares) < 0.8  # less on a busy machine
    assert min(shares) > 0.0
    idle = (float(started("idle").communicate(timeout=60)[0]) for _ in range(5))
    assert 1.0 in idle  # a very busy machine lets even the end of a sleep wait


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
