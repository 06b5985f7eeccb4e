"""docs/tutorial.md does what it says: every block is run, in order, as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import BRISK, ROOT

from bento_selfheal.simulation.server import ServedService, free_port

TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVE = re.compile(r"\$ (?P<env>(?:[A-Z_]+=\S+ )*)bentoml serve (?P<target>\S+)")


@dataclass(frozen=True)
class Block:
    """One block of the page."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that it is, by its first line."""
        named = re.match(r"# (\w+\.\w+)\n", self.text)
        return named.group(1) if named else None


def blocks() -> list[Block]:
    return [Block(language, text) for language, text in BLOCK.findall(TUTORIAL.read_text())]


def test_every_block_is_a_file_or_commands() -> None:
    """There is no block that the test below would not run, and the service is the root's."""
    for block in blocks():
        if block.language == "console":
            assert all(line.startswith("$ ") for line in block.text.splitlines()), block.text
        else:
            assert block.file, block.text
    (service,) = [b for b in blocks() if b.file == "service.py"]
    assert service.text.partition("\n")[2] == (ROOT / "service.py").read_text()


class Reader:
    """Does what the page says, in a folder of its own; one server at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "churn"
        self.folder.mkdir()
        self.home = folder / "home"
        self.log = folder / "server.log"
        self.port = free_port()
        self.printed: dict[str, list[str]] = {}
        self._server: ServedService | None = None
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._env = {**os.environ, "BENTOML_HOME": str(self.home), "PATH": path}

    def do(self, block: Block) -> None:
        if block.file:
            text = block.text.replace("localhost:3000", f"127.0.0.1:{self.port}")
            (self.folder / block.file).write_text(text)
            return
        for line in block.text.splitlines():
            serve = SERVE.fullmatch(line)
            if serve:
                self.close()
                env = BRISK | dict(pair.split("=", 1) for pair in serve["env"].split())
                self._server = ServedService(
                    serve["target"], home=self.home, log=self.log, cwd=self.folder, env=env,
                    port=self.port,
                )  # fmt: skip
            else:
                self._run(line.removeprefix("$ "))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _run(self, command: str) -> None:
        done = subprocess.run(  # noqa: S602 - the page's commands, as a shell takes them
            command, shell=True, cwd=self.folder, env=self._env, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.printed.setdefault(command, []).append(done.stdout)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with ExitStack() as stack:
        reader = Reader(tmp_path)
        stack.callback(reader.close)
        yield reader


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_tutorial(reader: Reader) -> None:
    """The model is packaged, answers, loses its accuracy to drift, wins it back, is rolled back by
    hand, and serves on as a bento."""
    for block in blocks():
        reader.do(block)
    ((trained,), asked, (drifted,), (undone,)) = (
        reader.printed[f"python {name}.py"] for name in ("train", "ask", "drift", "undo")
    )
    assert float(re.search(r"accuracy (\S+)", trained)[1]) > 0.9  # type: ignore[index]
    assert len(asked) == 2
    for said in asked:
        assert "100 labels are on disk" in said
    assert asked[0].startswith("snapshot 1 says")
    right = [float(value) for value in re.findall(r"right (\S+)", drifted)]
    assert right[0] < 0.75
    assert sum(right[-3:]) / 3 > right[0] + 0.1
    assert "DRIFTING" in drifted
    assert " promote: " in drifted
    assert re.search(r"rolled back from \d+ to 1\b", undone)
    assert " serves" in undone
