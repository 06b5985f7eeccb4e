"""Serves a candidate to the workers of this machine, and ends with them."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bentoml.exceptions import NotFound

from bento_selfheal.candidates import memory
from bento_selfheal.candidates.answerer import Answerer
from bento_selfheal.candidates.exits import ABSENT, OUTGREW
from bento_selfheal.candidates.frames import HEAD, body_bytes, unpack
from bento_selfheal.candidates.priority import Priority
from bento_selfheal.config.settings import load_settings
from bento_selfheal.deployment.locations import open_store
from bento_selfheal.deployment.threads import one_thread_a_call
from bento_selfheal.errors import PackageError, StoreError
from bento_selfheal.packaging.opening import open_package
from bento_selfheal.packaging.package import Package

log = logging.getLogger(__name__)

WRITE_SECONDS = 0.2
BEAT_SECONDS = 0.5
HANG_SECONDS = 5.0


def serve(
    candidate: int, tag: str, path: Path, model: str, at_first: Callable[[Callable[[], None]], None]
) -> None:
    """Serve until the parent ends.

    Args:
        candidate: Its number.
        tag: Exact tag of its package.
        path: Where the socket is to be.
        model: Name of the model that it would replace; empty where the service has one alone.
        at_first: Runs a function in a thread of the first, higher priority.
    """
    settings = load_settings().each[model]
    one_thread_a_call()
    package = _package(tag, settings.device)
    answerer = Answerer(package, candidate, open_store(settings), Priority())
    most = memory.limit()
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    at_first(lambda: _answer(listening, answerer, most))
    threading.Event().wait()  # idle from here on: threads of the first priority do all the rest


def _package(tag: str, device: str) -> Package:
    try:
        return open_package(tag, device)
    except (PackageError, NotFound) as error:
        log.error("no candidate on this machine: %s", error)
        os._exit(ABSENT)


def _answer(listening: socket.socket, answerer: Answerer, most: float) -> None:
    for work in (
        lambda: _accept(listening, answerer), lambda: _write(answerer),
        lambda: _beat(answerer, most), answerer.answer_copies,
    ):  # fmt: skip
        threading.Thread(target=work, daemon=True).start()
    answerer.answer_asks()


def _beat(answerer: Answerer, most: float) -> None:
    """Tell the parent that no call hangs; the end of its pipe ends this process."""
    gone = threading.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        gone.set()

    threading.Thread(target=wait, daemon=True).start()
    while not gone.wait(BEAT_SECONDS):
        if memory.resident() > most:
            os._exit(OUTGREW)
        if answerer.busy_seconds < HANG_SECONDS:
            with suppress(OSError):
                os.write(1, b".")
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
