"""Writes the labelled rows out for a full retrain."""

from __future__ import annotations

from pathlib import Path

from bento_selfheal.healing.labels.buffer import Buffer
from bento_selfheal.packaging.package import Package

LABEL, SOURCE, WEIGHT = "label", "source", "weight"


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
