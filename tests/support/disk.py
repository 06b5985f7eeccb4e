"""File systems of a test's own: one whose power can be cut, and a small one that gets full."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import wait_for

from bento_selfheal.packaging.package import Package

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2


class Disk:
    """An ext4 file system in a file. What was not synced is gone after `cut`, as on a real disk.

    Args:
        folder: For the file and the mount point.
        megabytes: Its size.
    """

    def __init__(self, folder: Path, megabytes: int = 300) -> None:
        self._image, self.path = folder / "disk.img", folder / "disk"
        self.path.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        tried = subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], capture_output=True)
        if tried.returncode == 0:
            tried = self._mount()
        if tried.returncode != 0:
            pytest.skip(f"only root can mount a disk: {tried.stderr.decode().strip()}")

    def cut(self) -> None:
        """Nothing more reaches the disk, from this instant on."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restore(self) -> None:
        """Power is back: mount what is on the disk."""
        self.close()
        assert self._mount().returncode == 0

    def close(self) -> None:
        """Unmount it, once nobody has a file open there."""
        wait_for(lambda: _umount(self.path), f"{self.path} unmounted")

    def _mount(self) -> subprocess.CompletedProcess[bytes]:
        command = ["mount", "-o", "loop", str(self._image), str(self.path)]
        return subprocess.run(command, capture_output=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs of so many megabytes for as long as the block lasts."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    tried = subprocess.run(command, capture_output=True)
    if tried.returncode != 0:
        pytest.skip(f"only root can mount a tmpfs: {tried.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        wait_for(lambda: _umount(folder), f"{folder} unmounted")


def with_package(home: Path, package: Package, folder: Path) -> Path:
    """A BENTOML_HOME with this package in a folder."""
    name, version = package.tag.split(":")
    own = folder / "home"
    shutil.copytree(home / "models" / name / version, own / "models" / name / version)
    (own / "models" / name / "latest").write_text(version)
    return own


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No room is left there for as long as the block lasts, whatever others delete meanwhile."""
    ballast, over = folder / "ballast", threading.Event()
    taker = threading.Thread(target=_take, args=(folder, ballast, over), name="ballast")
    taker.start()
    try:
        yield
    finally:
        over.set()
        taker.join()
        ballast.unlink()


def _take(folder: Path, ballast: Path, over: threading.Event) -> None:
    with ballast.open("ab", buffering=0) as file:
        while not over.wait(0.01):
            with suppress(OSError):
                file.write(bytes(max(shutil.disk_usage(folder).free, 1)))


def use_free_pages(file: Path) -> None:
    """Fill what is free inside a SQLite file, where labels would find room on a full disk."""
    with (
        closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection,
        suppress(sqlite3.OperationalError),  # the disk is full
    ):
        connection.execute("create table ballast (bytes blob)")
        while True:
            connection.execute("insert into ballast values (zeroblob(4000))")


def _umount(path: Path) -> bool:
    return subprocess.run(["umount", str(path)], capture_output=True).returncode == 0
