"""Writes the figures and events of a period to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from bento_selfheal.reports.report_data import ReportData

ARTICLE_COLUMNS = (
    "batch", "accuracy", "f1", "precision", "recall", "z", "conflicts", "lift", "state",
)  # fmt: skip


def write_export(data: ReportData, folder: Path) -> list[Path]:
    """Write ``metrics.csv``, ``signals.csv``, ``events.json`` and ``threshold_config.json``.

    Each row of ``metrics.csv`` is a labelled batch: the article's columns first, then the others.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / n for n in ("metrics.csv", "signals.csv", "events.json")]
    _write_csv(files[0], data.batches)
    _write_csv(files[1], data.signals)
    happened = {"events": data.events, "promotions": data.promotions}
    files[2].write_text(json.dumps(happened, indent=2) + "\n")
    files.append(folder / "threshold_config.json")
    files[3].write_text(json.dumps(data.thresholds, indent=2) + "\n")
    return files


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    known = dict.fromkeys(name for row in rows for name in row)
    columns = [*ARTICLE_COLUMNS, *(name for name in known if name not in ARTICLE_COLUMNS)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
