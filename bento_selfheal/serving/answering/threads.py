"""How many threads a call of the model takes."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from bento_selfheal.config.settings import Settings

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use, at least 1.

    As many as torch would take, which knows the affinity and ``OMP_NUM_THREADS``, and no more than
    the container's quota, which torch does not know. Ask before `torch.set_num_threads`.

    Args:
        cgroup: Where the kernel shows the quota.
    """
    return max(1, int(min(torch.get_num_threads(), _quota(cgroup))))


def threads_of_heavy(settings: Settings, cores: int) -> int:
    """Threads that a call of a heavy model takes: the setting, or this worker's part of the cores.

    Args:
        settings: Of the service.
        cores: Cores that all workers of the service may use together.
    """
    on_cpu = settings.device == "cpu"
    return settings.model_threads or (max(1, cores // settings.workers) if on_cpu else 1)


def _quota(cgroup: Path) -> float:
    """Cores that a container's quota allows, of either version of cgroups; infinite without one."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        cores = int(quota) / int(period)
    except (OSError, ValueError):  # none is kept here, or it reads "max"
        return math.inf
    return cores if cores > 0 else math.inf
