"""Small calls of a service's processes do not spread over the cores."""

from __future__ import annotations

import os
import subprocess
import sys

COUNT = """
import torch
from threadpoolctl import threadpool_info
from bento_selfheal.deployment.threads import one_thread_a_call

def threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

before = threads()
one_thread_a_call()
print(before, threads(), torch.get_num_threads())
"""


def test_one_thread_a_call() -> None:
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    told = subprocess.run(
        [sys.executable, "-c", COUNT], env={**env, "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.split() == ["[2]", "[1]", "1"]
