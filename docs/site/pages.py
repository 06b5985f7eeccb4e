"""Puts the repository's own pages into the site, at the places that their links name: `make site`.

MkDocs calls `on_files` before it reads the pages. So README.md is the first page, links between
pages work here as in the repository, and files that a page links to are copied.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "docs/*.md",
    "examples/**/*.md",
)
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository, and what they link to."""
    from mkdocs.structure.files import File

    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    linked = {target for page in pages for target in _linked_files(page)}
    for path in [*pages, *sorted(linked - set(pages))]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let a link to a folder lead to its README, or to its first file where it has none."""
    here = PurePosixPath(page.file.src_uri).parent

    def changed(match: re.Match[str]) -> str:
        before, target, anchor, after = match.groups()
        folder = (ROOT / here / target).resolve()
        if not folder.is_dir():
            return match.group()
        first = sorted(folder.glob("README.md")) or sorted(
            p for p in folder.iterdir() if p.is_file()
        )
        return f"{before}{target.rstrip('/')}/{first[0].name}{anchor or ''}{after}"

    return LINK.sub(changed, markdown)


def _linked_files(page: Path) -> list[Path]:
    """The files that a page links to or shows; of a folder, those in it."""
    found = []
    for _, target, _, _ in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        if path.is_dir():
            found += [one for one in path.iterdir() if one.is_file()]
        elif path.is_file():
            found.append(path)
    return found
