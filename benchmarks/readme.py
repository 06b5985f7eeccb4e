"""Write the README's tables from the result files, so that no figure is typed by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
QUALITY = Path(__file__).parent.parent / "docs" / "quality.md"
README = Path(__file__).parent.parent / "README.md"


def streams_table(results: dict[str, Any]) -> str:
    rows = [
        "| stream | frozen | served | last 10 batches | lift, 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for name, r in results.items():
        if isinstance(r, dict):
            mean, low, high = r["lift"]
            rows.append(
                f"| {name} | {r['frozen_accuracy']:.3f} | **{r['served_accuracy']:.3f}** "
                f"| {r['served_accuracy_last_10_batches']:.3f} "
                f"| {mean:+.3f} [{low:+.3f}, {high:+.3f}] |"
            )
    return "\n".join(rows)


def load_table(results: dict[str, Any]) -> str:
    keys = ("requests", "failed", "heals", "p50_ms", "p99_ms", "p99.9_ms", "max_ms")
    rows = ["| | " + " | ".join(k.replace("_", " ") for k in keys) + " |", "|---" * 8 + "|"]
    for name in ("without", "with_heals"):
        cells = " | ".join(str(results[name][key]) for key in keys)
        rows.append(f"| {name.replace('_', ' ')} | {cells} |")
    return "\n".join(rows)


def quality_table(results: dict[str, Any]) -> str:
    rows = ["| row | figures | seconds |", "|---|---|---|"]
    for name, found in sorted(results.items()):
        if isinstance(found, dict):
            cells = ", ".join(f"{k} {_short(v)}" for k, v in found.items() if k != "seconds")
            rows.append(f"| {name} | {cells} | {found['seconds']:.0f} |")
    return "\n".join(rows)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return str(value)


def update(name: str) -> None:
    """Put one result file's table between its marks."""
    table = {"streams": streams_table, "load": load_table, "quality": quality_table}[name]
    body = table(json.loads((RESULTS / f"{name}.json").read_text()))
    page = QUALITY if name == "quality" else README
    text = page.read_text()
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    page.write_text(re.sub(pattern, rf"\g<1>{body}\n\g<2>", text, flags=re.DOTALL))
