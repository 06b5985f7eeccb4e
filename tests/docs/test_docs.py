"""The docs say what the code does."""

from __future__ import annotations

import re
import subprocess
import sys

from conftest import ROOT
from settings_page import PAGE, settings_page

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_settings_page() -> None:
    """docs/settings.md is what `make docs` writes now."""
    assert PAGE.read_text() == settings_page(), "run `make docs`"


def test_commands() -> None:
    """Every `bento-selfheal` and `make` command that a page names exists."""
    help_text = subprocess.run(
        [sys.executable, "-c", "from bento_selfheal.cli.main import main; main()", "--help"],
        capture_output=True, text=True, check=True, env={"COLUMNS": "200", "PATH": ""},
    ).stdout  # fmt: skip
    known = set(re.findall(r"^│ ([a-z-]+) ", help_text, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        for verb in re.findall(r"bento-selfheal ([a-z][a-z-]+)", text):
            assert verb in known, f"{page.name}: bento-selfheal {verb}"
        for target in re.findall(r"(?:`|\$ )make ([a-z-]+[a-z])(?=[`\s,;])", text):
            assert target in targets, f"{page.name}: make {target}"


def test_threats_have_their_tests() -> None:
    """Every threat of docs/security.md names tests that there are."""
    lines = (ROOT / "docs" / "security.md").read_text().splitlines()
    threats = [line for line in lines if line.startswith("|") and "::" in line]
    assert len(threats) >= 20
    for line in threats:
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line):
            assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
