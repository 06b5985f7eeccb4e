"""Writes topics.csv: descriptions of Debian's packages, and what they are about.

    python benchmarks/topics_file.py

On a Debian 12 whose lists are fetched (`apt-get update`); nothing else is asked. A package is
about the one of the topics that its debtags name, and left out where they name none or several.
"""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).parent / "topics.csv"
TOPICS = {
    "administration": ("admin::",),
    "images": ("works-with::image",),
    "science": ("field::",),
    "security": ("security::",),
    "sound": ("sound::", "works-with::audio"),
    "text": ("works-with::text",),
}
"""How the debtags of each topic begin."""
LIBRARIES = {
    "cli-mono", "gnu-r", "golang", "haskell", "introspection", "java", "javascript", "libdevel",
    "libs", "lisp", "ocaml", "oldlibs", "perl", "php", "python", "ruby", "rust",
}  # fmt: skip
LEFT_OUT = {"debug", "doc", "fonts", "localization", "metapackages"}


def records() -> Iterator[dict[str, str]]:
    """The first line of each field of each package."""
    known = subprocess.run(
        ["apt-cache", "dumpavail"],  # noqa: S607
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for one in known.split("\n\n"):
        joined = re.sub(r",\n\s+", ", ", one)  # tags go on over lines
        yield dict(re.findall(r"^([\w-]+): (.*)$", joined, flags=re.MULTILINE))


def topics_of(tags: str) -> list[str]:
    """The topics that debtags name."""
    each = tags.split(", ")
    return [name for name, of in TOPICS.items() if any(tag.startswith(of) for tag in each)]


def rows() -> list[tuple[str, str, str]]:
    """Kind, topic and description of each package; of equal descriptions the first."""
    found: dict[str, tuple[str, str, str]] = {}
    for package in sorted(records(), key=lambda fields: fields.get("Package", "")):
        topics = topics_of(package.get("Tag", ""))
        said, section = package.get("Description", ""), package.get("Section", "")
        if len(topics) != 1 or not said or section in LEFT_OUT:
            continue
        kind = "library" if section in LIBRARIES else "program"
        found.setdefault(said.lower(), (kind, topics[0], said))
    return sorted(found.values())


def main() -> None:
    with FILE.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("kind", "topic", "description"))
        writer.writerows(rows())


if __name__ == "__main__":
    main()
