"""A real PostgreSQL of the tests' own, from Debian's packages, on a free port."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from conftest import wait_for
from sqlalchemy import create_engine, text

from bento_selfheal.simulation.server import free_port

STOP_SECONDS = 20
numbers = count(1)


def binaries() -> Path:
    """Where PostgreSQL's programs are; skips the test where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql`")
    return found[-1].parent if found else Path(str(on_path)).parent


class Postgres:
    """One server; every test gets a database of its own.

    Args:
        folder: For its data; it must not exist.
        durable: Whether a commit waits for the disk.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._bin = binaries()
        self._folder = folder
        self.port = free_port()
        # PostgreSQL refuses to run as root.
        self._as = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
            if os.getuid() == 0
            else []
        )
        folder.mkdir(parents=True)
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
            self._let_in()
        data = folder / "data"
        command = [str(self._bin / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres"]
        subprocess.run([*self._as, *command, "--no-sync"], check=True, capture_output=True)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": folder,
            "fsync": "on" if durable else "off",
        }
        self._command = [
            *self._as, str(self._bin / "postgres"), "-D", str(data),
            *(f"--{name}={value}" for name, value in options.items()),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, again where it was stopped, and wait until it answers."""
        if self._as:
            self._let_in()
        with (self._folder / "log").open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)
        ready = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL answers")

    def _let_in(self) -> None:
        """Let it reach its folder: pytest closes those above to all others whenever it starts."""
        for parent in self._folder.parents:
            if os.stat(parent).st_uid == os.getuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)

    def stop(self) -> None:
        """End it at once: clients lose their connections."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(2)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)

    @contextmanager
    def standing_by(self) -> Iterator[None]:
        """Restarted as a standby, which takes no writes, for as long as the block lasts."""
        self.stop()
        (self._folder / "data" / "standby.signal").touch()
        self.start()
        try:
            yield
        finally:
            engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
            with engine.connect() as c:
                c.execute(text("select pg_promote()"))
            engine.dispose()

    def database(self) -> str:
        """The URL of a fresh database."""
        name = f"test{next(numbers)}"
        engine = create_engine(self._url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as c:
            c.execute(text(f"create database {name}"))
        engine.dispose()
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"


@contextmanager
def running(folder: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """A server for as long as the block lasts."""
    server = Postgres(folder, durable=durable)
    try:
        yield server
    finally:
        server.stop()
