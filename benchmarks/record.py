"""Runs the rows of a benchmark, and records each as soon as it is done."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from readme import RESULTS, update
from serving import package_article

from bento_selfheal.packaging.model_store import use_home


def record(name: str, rows: Mapping[str, Callable[[], Any]]) -> None:
    """Run the rows that the command line names, all without a name, and write the tables.

    The figures go to ``results/NAME.json``, where rows that do not run stay as they are.
    """
    wanted = sys.argv[1:] or list(rows)
    if unknown := [row for row in wanted if row not in rows]:
        sys.exit(f"no row {unknown[0]!r}; the rows are {', '.join(map(repr, rows))}")
    file = RESULTS / f"{name}.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results |= {
        "command": f"make bench-{name}", "machine": f"{platform.machine()}, {os.cpu_count()} cores"
    }  # fmt: skip
    for row in wanted:
        results[row] = rows[row]()
        print(row, results[row], flush=True)
        file.write_text(json.dumps(results, indent=2) + "\n")
    update(name)


@contextmanager
def article_home() -> Iterator[Path]:
    """A model store of its own, with the article's model as BENCH_TAG."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        use_home(home)
        os.environ["BENCH_TAG"] = package_article(42)
        yield home
