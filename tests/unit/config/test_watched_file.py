"""A file that is edited while the service runs: a good edit is taken, a bad one changes nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from bento_selfheal.config.watched_file import WatchedFile
from bento_selfheal.errors import SettingsError


def number(content: bytes) -> int:
    try:
        return int(content)
    except ValueError as error:
        raise SettingsError(f"number: {content!r} is no number") from error


@pytest.fixture
def file(tmp_path: Path) -> WatchedFile[int]:
    path = tmp_path / "number.txt"
    path.write_text("1")
    watched = WatchedFile(path, number, 0, lambda value: f"<{value}>")
    watched.load()
    return watched


def test_takes_edits(file: WatchedFile[int]) -> None:
    """An edit is taken once; one that says the same is no change; a replaced file is noticed."""
    assert file.current == 1
    assert file.refresh() is False
    file.path.write_text("22")
    assert file.refresh() is True
    assert file.current == 22
    assert file.refresh() is False
    file.path.write_text("022")
    assert file.refresh() is False
    stat = file.path.stat()
    other = file.path.with_suffix(".new")
    other.write_text("333")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file.path)
    assert file.refresh() is True
    assert file.current == 333


@pytest.mark.parametrize("spoil", ["bad", "gone", "folder"])
def test_refuses(file: WatchedFile[int], caplog: pytest.LogCaptureFixture, spoil: str) -> None:
    """A bad edit, a lost file and a folder in its place leave the value in force, with one log
    line that names the file and what stays; the mended file is taken."""
    file.path.unlink()
    if spoil == "bad":
        file.path.write_text("one")
    elif spoil == "folder":
        file.path.mkdir()
    with caplog.at_level(logging.ERROR):
        assert [file.refresh() for _ in range(3)] == [False] * 3
    [line] = [record.getMessage() for record in caplog.records]
    assert str(file.path) in line
    assert "still in force: <1>" in line
    if spoil == "folder":
        file.path.rmdir()
    file.path.write_text("4")
    assert file.refresh() is True
    assert file.current == 4


def test_cannot_look(
    file: WatchedFile[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file's place cannot even be looked at, that is said once, until it can be again."""
    real = Path.stat

    def stat(self: Path, **more: Any) -> Any:
        if self == file.path:
            raise PermissionError(13, "Permission denied")
        return real(self, **more)

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "stat", stat)
            assert [file.refresh() for _ in range(3)] == [False] * 3
        assert file.refresh() is False
    assert caplog.text.count("Permission denied") == 2


def test_a_long_refusal_is_cut(file: WatchedFile[int], caplog: pytest.LogCaptureFixture) -> None:
    """A refused file is not quoted whole."""
    file.path.write_text("x" * 100_000)
    assert file.refresh() is False
    assert len(caplog.text) < 1000


def test_first_read(tmp_path: Path) -> None:
    """The first read raises where a later look would only log."""
    file = WatchedFile(tmp_path / "number.txt", number, 0)
    with pytest.raises(FileNotFoundError):
        file.load()
    file.path.write_text("one")
    with pytest.raises(SettingsError, match="no number"):
        file.load()
