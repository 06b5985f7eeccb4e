"""Threads of numerical libraries in the processes of a service."""

from __future__ import annotations

import numpy as np  # noqa: F401 - only what is loaded can be limited
import torch
from threadpoolctl import threadpool_limits


def one_thread_a_call() -> None:
    """Compute each call of torch and NumPy in the thread that makes it, from now on.

    With a thread for each core the threads of a small call wait for each other while other
    processes have the cores: the heals of 8,000 rows took six times the CPU beside other work.
    """
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="blas")
