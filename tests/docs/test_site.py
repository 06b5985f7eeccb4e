"""The documentation as a site: what its check finds, and that the reference has every name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import bento_selfheal
from bento_selfheal import client, config

REFERENCE = ROOT / "docs" / "site" / "reference"
GOOD = '<h1 id="top">A</h1><a href="#top">up</a> <a href="https://example.org">elsewhere</a>'


def check(site: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "site" / "check.py"), str(site)],
        capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_good_site(tmp_path: Path) -> None:
    """Links lead somewhere; what a reader clicks may be on another host."""
    (tmp_path / "index.html").write_text(GOOD)
    assert check(tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<script src="https://cdn.example.org/a.js"></script>', "https://cdn.example.org/a.js"),
        ('<link rel="stylesheet" href="//fonts.example.org/b">', "loads //fonts.example.org/b"),
        ('<img src="http://example.org/c.png">', "index.html: loads http://example.org/c.png"),
        ('<a href="gone.html">gone</a>', "gone.html: no such file"),
        ('<a href="#nowhere">gone</a>', "#nowhere: no such place"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, html: str, fault: str) -> None:
    """What a browser would load from elsewhere, and links that lead nowhere, with their page."""
    (tmp_path / "index.html").write_text(GOOD + html)
    code, said = check(tmp_path)
    assert code == 1
    assert fault in said


def test_a_style_sheet_that_loads(tmp_path: Path) -> None:
    """Fonts and pictures of style sheets count, too."""
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example.org/x.woff2) }")
    assert check(tmp_path) == (1, "a.css: loads https://fonts.example.org/x.woff2\n")


def test_every_public_name_is_in_the_reference() -> None:
    """What users import from the package, its client and its settings has an entry."""
    pages = "\n".join(page.read_text() for page in REFERENCE.glob("*.md"))
    entries = set(re.findall(r"^::: [\w.]+\.(\w+)$", pages, re.MULTILINE))
    public = {*bento_selfheal.__all__, *client.__all__, *config.__all__} - {"FeedbackItem"}
    assert public <= entries  # FeedbackItem is among all of wire.messages
    assert "messages" in entries


def test_every_page_is_in_the_navigation() -> None:
    """A page of docs/ that nobody can find would be as good as none."""
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "site").rglob("*.md")]:
        folder = ROOT if page.parent.name == "docs" else ROOT / "docs" / "site"
        assert f" {page.relative_to(folder)}\n" in navigation, page.name
