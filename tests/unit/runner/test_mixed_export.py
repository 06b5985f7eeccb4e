"""What is handed out to retrain from has the values that came in, not codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from mixed import NAMES, codes, flights, packaged
from rigs import Live, Rig

from bento_selfheal.runner.retrain_export import write_labelled


def test_values_come_out(tmp_path: Path) -> None:
    """Gaps are nulls, categories their names, switches true or false, and dates are dates."""
    package = packaged()
    ran, (rows, labels) = Live(Rig(package)), flights(200, seed=9)
    ran.send(codes(rows), np.asarray([label == "late" for label in labels], dtype=np.int64))
    file = tmp_path / "labelled.parquet"
    written = write_labelled(file, package, ran.rig.pipeline.parts.buffer)
    told = pq.read_table(file).to_pylist()
    assert len(told) == written > 100
    for row, out in zip(rows, told, strict=False):
        assert out["sky"] == row[3]
        assert out["at night"] is row[2]
        assert out["engines"] == row[1]
        assert (out["speed"] is None) == (row[0] is None)
        assert out["day"].date().isoformat() == row[4]
    assert set(NAMES) < set(told[0])
