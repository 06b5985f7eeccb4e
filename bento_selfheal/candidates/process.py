"""The process of one candidate: it answers over a local socket, and harms nobody but itself.

It opens its package while nobody else wants the core, and answers copies at a low priority: only
requests that somebody waits for are answered at the priority that it came with. See `priority`.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

from bentoml.exceptions import NotFound

from bento_selfheal.candidates import memory
from bento_selfheal.candidates.answerer import Answerer
from bento_selfheal.candidates.exits import ABSENT, BEAT, OUTGREW
from bento_selfheal.candidates.frames import HEAD, body_bytes, unpack
from bento_selfheal.candidates.priority import Priority, begin_idle
from bento_selfheal.config.settings import load_settings
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.deployment.threads import one_thread_a_call
from bento_selfheal.errors import PackageError, StoreError
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.2
BEAT_SECONDS = 0.1
"""Also between two looks at the memory: a model can take a gigabyte in a quarter of a second."""
HANG_SECONDS = 5.0


def run(candidate: int, tag: str, path: str, model: str, keeper: socket.socket) -> None:
    """Serve to the workers of this machine until the keeper closes its end of the line.

    Args:
        candidate: Its number.
        tag: Exact tag of its package.
        path: Where the socket for the workers is to be.
        model: Name of the model that it would replace; empty where the service has one alone.
        keeper: Line to whoever started it.
    """
    os.setsid()
    priority = Priority()
    first: SimpleQueue[Callable[[], None]] = SimpleQueue()
    threading.Thread(target=lambda: first.get()(), daemon=True).start()
    begin_idle()
    settings = load_settings().each[model]
    one_thread_a_call()
    package = _package(tag, settings.device, keeper)
    answerer = Answerer(package, candidate, open_store(settings), priority)
    most = memory.limit()
    Path(path).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    first.put(lambda: _answer(listening, answerer, keeper, most))
    threading.Event().wait()  # idle from here on: threads of the first priority do all the rest


def _package(tag: str, device: str, keeper: socket.socket) -> Package:
    try:
        return open_package(tag, device)
    except (PackageError, NotFound) as error:
        log.error("no candidate on this machine: %s", error)
        _exit(keeper, ABSENT)


def _exit(keeper: socket.socket, why: bytes) -> NoReturn:
    with suppress(OSError):
        keeper.send(why)
    os._exit(0)


def _answer(
    listening: socket.socket, answerer: Answerer, keeper: socket.socket, most: float
) -> None:
    for work in (
        lambda: _accept(listening, answerer), lambda: _write(answerer),
        lambda: _beat(answerer, keeper, most), answerer.answer_copies,
    ):  # fmt: skip
        threading.Thread(target=work, daemon=True).start()
    answerer.answer_asks()


def _beat(answerer: Answerer, keeper: socket.socket, most: float) -> None:
    """Tell the keeper that no call hangs; the end of its line ends this process."""
    gone = threading.Event()

    def wait() -> None:
        with suppress(OSError):
            keeper.recv(1)  # it says nothing: this returns once it is gone
        gone.set()

    threading.Thread(target=wait, daemon=True).start()
    while not gone.wait(BEAT_SECONDS):
        if memory.resident() > most:
            _exit(keeper, OUTGREW)
        if answerer.busy_seconds < HANG_SECONDS:
            with suppress(OSError):
                keeper.send(BEAT)
    os._exit(0)


def _accept(listening: socket.socket, answerer: Answerer) -> None:
    while True:
        worker, _ = listening.accept()
        threading.Thread(target=_read, args=(worker, answerer), daemon=True).start()


def _read(worker: socket.socket, answerer: Answerer) -> None:
    with worker, suppress(OSError, ValueError), worker.makefile("rb") as stream:
        while len(head := stream.read(HEAD.size)) == HEAD.size:
            body = stream.read(body_bytes(head))
            answerer.take(unpack(head, body), worker)


def _write(answerer: Answerer) -> None:
    while True:
        time.sleep(WRITE_SECONDS)
        try:
            answerer.write()
        except StoreError as error:
            log.warning("%s", error)
