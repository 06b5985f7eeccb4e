"""Starts the processes of a machine's candidates, each as a fork of itself.

    python -m bento_selfheal.candidates.host

A new interpreter that loads torch takes 1.7 seconds of the processor and 200 MB, and whoever
answers requests on the same cores feels it. The host does it once, while nobody else wants its
core; a fork has it all, and shares its memory with the others. The host runs no model, so that its
forks begin without threads, and without anything that a model has left behind.

Standard input is a socket, on which the keeper sends a line for each order: ``{"start": ID, "tag":
…, "path": …, "model": …}`` with the file descriptor of the candidate's own line to the keeper, and
``{"end": ID}``. The host ends with its keeper, and the candidates with the host.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from typing import Any

from bento_selfheal.candidates.priority import Priority, begin_idle

MOST_BYTES = 1 << 16
MOST_LINES = 16
"""File descriptors that one read may bring."""


def main() -> None:
    """Start and end candidates until the keeper closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the keeper ends it
    os.setsid()
    Priority()
    loader = threading.Thread(target=_load)
    loader.start()
    loader.join()
    keeper = socket.socket(fileno=0)
    children: dict[int, int] = {}
    for order, line in _orders(keeper):
        if "end" in order:
            _end(children.pop(order["end"], 0))
        elif not (pid := os.fork()):
            keeper.detach()
            _become(order, socket.socket(fileno=line))
        else:
            os.close(line)
            children[order["start"]] = pid
    for pid in children.values():
        _end(pid)


def _load() -> None:
    begin_idle()
    import bentoml.models  # noqa: F401 - which bentoml loads only when it is used

    import bento_selfheal.candidates.process  # noqa: F401 - with torch

    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that it looks at


def _orders(keeper: socket.socket) -> Iterator[tuple[dict[str, Any], int]]:
    """The orders, those to start with a file descriptor, others with -1."""
    text, lines = b"", deque[int]()
    while True:
        said, came, _, _ = socket.recv_fds(keeper, MOST_BYTES, MOST_LINES)
        lines.extend(came)
        if not said:
            return
        *whole, text = (text + said).split(b"\n")
        for order in map(json.loads, whole):
            yield order, lines.popleft() if "start" in order else -1


def _become(order: dict[str, Any], line: socket.socket) -> None:
    """Be the candidate, and nothing of the host any more."""
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        from bento_selfheal.candidates.process import run

        run(order["start"], order["tag"], order["path"], order["model"], line)
    except BaseException:  # what a process of its own would write
        traceback.print_exc()
    finally:
        os._exit(1)


def _end(pid: int) -> None:
    """End a child at once; one that has ended keeps its number until it is asked for here."""
    if pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
