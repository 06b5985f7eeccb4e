"""What is handed out to retrain from has the values that came in, not codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from mixed import NAMES, codes, flights, packaged
from networks import packaged_stripes
from rigs import Live, Rig

from bento_selfheal.runner.retrain_export import write_labelled


def test_values_come_out(tmp_path: Path) -> None:
    """Gaps are nulls, categories their names, switches true or false, and dates are dates."""
    package = packaged()
    ran, (rows, labels) = Live(Rig(package)), flights(200, seed=9)
    ran.send(codes(rows), np.asarray([label == "late" for label in labels], dtype=np.int64))
    file = tmp_path / "labelled.parquet"
    written = write_labelled(
        file, package, ran.rig.pipeline.parts.buffer, ran.rig.pipeline.parts.batches.new_classes
    )
    told = pq.read_table(file).to_pylist()
    assert len(told) == written > 100
    for row, out in zip(rows, told, strict=False):
        assert out["sky"] == row[3]
        assert out["at night"] is row[2]
        assert out["engines"] == row[1]
        assert (out["speed"] is None) == (row[0] is None)
        assert out["day"].date().isoformat() == row[4]
    assert set(NAMES) < set(told[0])


def test_hidden_vectors_come_out(tmp_path: Path) -> None:
    """Of a network they are what is logged, with the facts as values beside them."""
    package = packaged_stripes("exported")
    ran = Live(Rig(package))
    rows, labels = package.reference_rows, package.reference_labels.astype(np.int64)
    ran.send(np.tile(rows, (3, 1)), np.tile(labels, 3))
    file = tmp_path / "labelled.parquet"
    written = write_labelled(
        file, package, ran.rig.pipeline.parts.buffer, ran.rig.pipeline.parts.batches.new_classes
    )
    told = pq.read_table(file)
    assert told.num_rows == written > 0
    assert told.column_names == [*package.info.features, "label", "source", "weight"]
    assert set(told["country"].to_pylist()) == {"DE", "FR"}
