"""Every relative link in the documentation leads to an existing file and heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def links(text: str) -> list[str]:
    """Targets of all relative links in a page, code left out.

    >>> links("[a](b.md#c) ![d](e.png) [f](https://g.org) `[h](i.md)`")
    ['b.md#c', 'e.png']
    """
    text = CODE_SPAN.sub("", FENCE.sub("", text))
    found = (inline or reference for inline, reference in LINK.findall(text))
    return [target for target in found if not EXTERNAL.match(target)]


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub names them; a repeated heading gets a number.

    >>> sorted(anchors("# Set `SELFHEAL_X`: why?\\n## Same\\n## Same"))
    ['same', 'same-1', 'set-selfheal_x-why']
    """
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        count = 0
        while (name := f"{slug}-{count}" if count else slug) in found:
            count += 1
        found.add(name)
    return found


def broken(page: Path) -> list[str]:
    """Links of a page whose file or heading does not exist, each with the reason."""
    faults = []
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            faults.append(f"{link}: no such heading")
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    """Files exist, and so do the headings that anchors name."""
    assert broken(page) == []


def test_broken_links_are_reported(tmp_path: Path) -> None:
    """A missing file, a missing heading here and one in another page are all found."""
    (tmp_path / "other.md").write_text("# Quick start\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[1](other.md#quick-start) [2](#here) [3](gone.md) [4](other.md#start) "
        "[5](#there)\n"
    )
    assert broken(page) == [
        "gone.md: no such file",
        "other.md#start: no such heading",
        "#there: no such heading",
    ]
