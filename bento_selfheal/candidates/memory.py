"""What the process of a candidate may have of the machine's memory."""

from __future__ import annotations

import math
import resource
from contextlib import suppress
from pathlib import Path

MORE_BYTES = 1 << 30
"""What the process may hold beyond what it has once its model is loaded."""


def resident() -> float:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    return _pages(1) * resource.getpagesize()


def limit() -> float:
    """Let this process ask for no more than twice what it may hold, and be the first that the
    system ends where memory runs out. Returns the bytes that it may hold."""
    size = _pages(0) * resource.getpagesize()
    if not size:
        return math.inf
    most = size + 2 * MORE_BYTES
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    return resident() + MORE_BYTES


def _pages(place: int) -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[place])
    except OSError:
        return 0
