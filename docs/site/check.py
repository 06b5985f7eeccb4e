"""Checks the site that was built: nothing comes from another host, and every link leads somewhere.

    python docs/site/check.py FOLDER

Prints each fault with its page, and exits with 1 where there is one. `make site` runs it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src",
    "video": "src", "audio": "src", "embed": "src", "object": "data",
}  # fmt: skip
"""Tags whose content a browser loads by itself, and the attribute that says from where."""
CSS_ADDRESS = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""")


@dataclass
class Html(HTMLParser):
    """What one page loads, where its links lead, and its anchors."""

    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag's addresses and its anchor."""
        given = {name: value or "" for name, value in attrs}
        if address := given.get(LOADED.get(tag, ""), ""):
            self.loaded.append(address)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.anchors |= {given[name] for name in ("id", "name") if name in given}


def faults(site: Path) -> list[str]:
    """What is wrong with a site, each with the file that it is in."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        wrong = [f"loads {address}" for address in page.loaded if _elsewhere(address)]
        wrong += [
            why for link in [*page.loaded, *page.links] if (why := _broken(link, path, pages))
        ]
        found += [f"{path.relative_to(site)}: {why}" for why in wrong]
    for sheet in sorted(site.rglob("*.css")):
        text = sheet.read_text(encoding="utf-8")
        found += [f"{sheet.relative_to(site)}: loads {a}" for a in CSS_ADDRESS.findall(text)]
    return found


def _read(path: Path) -> Html:
    page = Html()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") or bool(parts.netloc)


def _broken(link: str, path: Path, pages: dict[Path, Html]) -> str:
    """Why a link within the site leads nowhere; empty where it leads somewhere, or elsewhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or path.name == "404.html":  # 404 is served for any path
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return f"{link}: no such file"
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"{link}: no such place in it"
    return ""


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or f"{sys.argv[1]}: nothing from other hosts, no broken link")
    sys.exit(bool(wrong))
