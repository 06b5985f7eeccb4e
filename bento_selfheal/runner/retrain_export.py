"""Writes the labelled rows out for a full retrain."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bento_selfheal.core.records import Label
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.unlearnable import NewClasses
from bento_selfheal.healing.pipeline import Pipeline
from bento_selfheal.inputs.column import Column
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.package import Package

log = logging.getLogger(__name__)

LABEL, SOURCE, WEIGHT = "label", "source", "weight"
MOST_COLUMNS = 200
"""Columns that an event names; the file of the schema has all."""


def export_buffer(folder: Path, pipeline: Pipeline) -> dict[str, Any]:
    """Write the labelled rows for the retrain that is asked for.

    Args:
        folder: Where the file goes; it is made where it is missing.
        pipeline: With the package and the labelled rows.

    Returns:
        What a retrain needs to know: the package, where the file lies, on which host, what its
        columns are, and how many rows it has; or why it could not be written.
    """
    parts = pipeline.parts
    package, batch = parts.package, parts.scoreboard.counts.labelled_batches
    path = folder.absolute() / f"retrain-{package.tag.split(':')[1]}-{batch}.parquet"
    facts: dict[str, Any] = {"package": package.tag, "host": socket.gethostname()}
    try:
        rows = write_labelled(path, package, parts.buffer, parts.batches.new_classes)
        facts |= {"export": str(path), "rows": rows, "schema": _schema(path, package)}
    except OSError as error:
        log.error("the labelled rows could not be written to %s: %s", path, error)
        return {**facts, "export": None, "export_error": f"{path}: {error.strerror}"}
    log.warning("%s: %d labelled rows in %s", parts.scoreboard.advice.retrain, rows, path)
    return facts


def remove_export(facts: dict[str, Any]) -> None:
    """Remove what `export_buffer` wrote for a step that was given up."""
    if facts.get("export"):
        for path in (facts["export"], facts["schema"]["file"]):
            if path is not None:
                Path(path).unlink(missing_ok=True)


def _schema(path: Path, package: Package) -> dict[str, Any]:
    """What the columns of an export are, and where their types lie for `package --schema`."""
    info = package.info
    label, source, weight = _own_names(info.features)
    columns = info.columns or [Column(name=name) for name in info.features]
    file = None
    if info.columns:
        file = path.with_suffix(".schema.json")
        described = [column.model_dump(mode="json") for column in info.columns]
        file.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    kinds = {column.name: column.kind.value for column in columns[:MOST_COLUMNS]}
    return {
        "file": None if file is None else str(file), "columns": kinds, "width": len(columns),
        "label": label, "source": source, "weight": weight, "classes": info.classes,
        "hidden_columns": info.hidden_columns, "rows_hold_inputs": info.rows_hold_inputs,
    }  # fmt: skip


def _own_names(features: Sequence[str]) -> tuple[str, str, str]:
    """Names of the columns beside the features; none is that of a feature."""
    taken = set(features)
    label, source, weight = (n if n not in taken else f"_{n}" for n in (LABEL, SOURCE, WEIGHT))
    return label, source, weight


def write_labelled(path: Path, package: Package, buffer: Buffer, new: NewClasses) -> int:
    """Write the buffer as Parquet, oldest first: features, label as its class, source, weight.

    A weight over 1 says how many rows of its class a row stands for. Behind these are the rows of
    classes that the package does not have.

    Returns:
        Number of rows.
    """
    # Here, not above: 25 MB that no predict worker should carry.
    import pyarrow as pa
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    names = package.info.features
    label, source, weight = _own_names(names)
    classes: list[Label] = [package.info.classes[int(y)] for y in buffer.labels]
    features, sources, weights = buffer.features, list(buffer.sources), buffer.weights
    if new.rows:
        rows, named, by = new.labelled()
        features, classes, sources = np.concatenate([features, rows]), classes + named, sources + by
        weights = np.concatenate([weights, np.ones(len(rows), dtype=np.float32)])
    columns: dict[str, Any] = {name: features[:, i] for i, name in enumerate(names)}
    if package.info.columns:
        columns = Schema(package.info.columns).values(features)
    table = pa.table(
        {**columns, label: pa.array(classes), source: pa.array(sources), weight: weights}
    )
    beside = path.with_suffix(".part")
    pa.parquet.write_table(table, beside)
    beside.replace(path)
    return len(classes)
