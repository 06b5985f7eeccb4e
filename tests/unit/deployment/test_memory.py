"""Memory of processes with many threads."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, tempfile, threading
from bento_selfheal.deployment.memory import share_freed_memory

share_freed_memory()
libc, together = ctypes.CDLL(None), threading.Barrier(16)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]

def work():
    libc.malloc(ctypes.c_size_t(10_000))
    together.wait()

threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.NamedTemporaryFile() as file:
    page = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, page)
    libc.fclose(page)
    print(file.read().count(b"<heap nr="))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc alone has arenas")
def test_threads_share_what_they_have_freed() -> None:
    """16 threads that are there at once have two arenas between them."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) == 2
