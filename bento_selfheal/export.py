"""What leaves the service as files: figures and events of a period, labelled rows for a retrain."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from .buffer import Buffer
from .package import Package
from .period import Period

LABEL, SOURCE, WEIGHT = "label", "source", "weight"
ARTICLE_COLUMNS = (
    "batch", "accuracy", "f1", "precision", "recall", "z", "conflicts", "lift", "state",
)  # fmt: skip


def write_period(period: Period, folder: Path) -> list[Path]:
    """Write ``metrics.csv``, ``signals.csv``, ``events.json`` and ``threshold_config.json``.

    A row of ``metrics.csv`` is a labelled batch: the article's columns first, then the others.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / n for n in ("metrics.csv", "signals.csv", "events.json")]
    _write_csv(files[0], period.batches)
    _write_csv(files[1], period.signals)
    happened = {"events": period.events, "promotions": period.promotions}
    files[2].write_text(json.dumps(happened, indent=2) + "\n")
    files.append(folder / "threshold_config.json")
    files[3].write_text(json.dumps(period.thresholds, indent=2) + "\n")
    return files


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    known = dict.fromkeys(name for row in rows for name in row)
    columns = [*ARTICLE_COLUMNS, *(name for name in known if name not in ARTICLE_COLUMNS)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_labelled(path: Path, package: Package, buffer: Buffer) -> int:
    """Write the buffer as Parquet, oldest first: features, label as its class, source, weight.

    A weight over 1 says how many rows of its class a row stands for.

    Returns:
        Number of rows.
    """
    # Here, not above: 25 MB that no predict worker should carry.
    import pyarrow as pa
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    names = package.info.features
    taken = set(names)
    own = (LABEL, SOURCE, WEIGHT)
    label, source, weight = (name if name not in taken else f"_{name}" for name in own)
    columns = {name: buffer.features[:, i] for i, name in enumerate(names)}
    classes = [package.info.classes[int(y)] for y in buffer.labels]
    table = pa.table(
        {
            **columns,
            label: pa.array(classes),
            source: pa.array(buffer.sources),
            weight: buffer.weights,
        }
    )
    beside = path.with_suffix(".part")
    pa.parquet.write_table(table, beside)
    beside.replace(path)
    return len(buffer)
