"""A real `bentoml serve` on a free port, stopped by the one who started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from bento_selfheal.errors import SelfHealError

READY_SECONDS = 90.0
STOP_SECONDS = 20.0


class ServedService(AbstractContextManager["ServedService"]):
    """`bentoml serve TARGET` in a process of its own.

    Args:
        target: What to serve: ``service:SelfHealing``, or a bento's tag.
        home: BENTOML_HOME of the server.
        log: File for what the server prints.
        cwd: Folder to start it in.
        env: More environment variables.
        port: Port to listen on; None asks the system for a free one.

    Raises:
        SelfHealError: It ended or was not ready in time; the message shows the end of its log.
    """

    def __init__(
        self,
        target: str,
        *,
        home: Path,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        own = {"BENTOML_HOME": str(home.resolve()), "BENTOML_DO_NOT_TRACK": "True"}
        command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1"]
        with log.open("ab") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [*command, "--port", str(self.port)],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **own, **(env or {})},
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the server and every process that it started, within a deadline."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the server and every process that it started at once, as a power cut would."""
        started: list[psutil.Process] = []
        if self.process.poll() is None:
            # Circus gives each worker a session of its own: a signal to the group misses them.
            started = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(STOP_SECONDS)
        psutil.wait_procs(started, STOP_SECONDS)

    def last_words(self, lines: int = 30) -> str:
        """The end of what the server printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SelfHealError(f"bentoml serve ended:\n{self.last_words()}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise SelfHealError(f"not ready after {READY_SECONDS:.0f} s:\n{self.last_words()}")


def free_port() -> int:
    """A free port, as the system reports it."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])
