"""How the processes of a service with several models take memory from the system."""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8
"""``man 3 mallopt``"""
ARENAS = 2
"""One for the main thread and one for all others: few of them run at the same time."""


def share_freed_memory() -> None:
    """Let threads use what others have freed, from now on; no effect without glibc.

    glibc gives threads an arena each, up to eight for each core, and every arena keeps what its
    threads have freed. With threads for each model that was 8 MB a model on two cores. Call this
    before they start.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)
