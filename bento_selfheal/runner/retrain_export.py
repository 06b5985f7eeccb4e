"""Writes the labelled rows out for a full retrain."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from bento_selfheal.core.records import Label
from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.healing.labels.unlearnable import NewClasses
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.packaging.package import Package

log = logging.getLogger(__name__)

LABEL, SOURCE, WEIGHT = "label", "source", "weight"


def export_buffer(
    folder: Path, package: Package, buffer: Buffer, new: NewClasses, *, batch: int, why: str
) -> None:
    """Write the labelled rows for the retrain that is asked for; a failure is logged.

    Args:
        folder: Where the file goes; it is made where it is missing.
        package: Names features and classes.
        buffer: The labelled rows.
        new: Rows of classes that the package does not have.
        batch: Number of the labelled batch, for the file's name.
        why: Why a retrain is asked for.
    """
    path = folder / f"retrain-{package.tag.split(':')[1]}-{batch}.parquet"
    try:
        rows = write_labelled(path, package, buffer, new)
    except OSError as error:
        log.error("the labelled rows could not be written to %s: %s", path, error)
    else:
        log.warning("%s: %d labelled rows in %s", why, rows, path)


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
    taken = set(names)
    own = (LABEL, SOURCE, WEIGHT)
    label, source, weight = (name if name not in taken else f"_{name}" for name in own)
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
