"""Streams: the article's data, and a user's own file read in order or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from bento_selfheal.errors import SettingsError
from bento_selfheal.simulation.streams import ARTICLE_FEATURES, article_rows, read_table

CSV = "t,price,volume,up\n0,1.5,10,DOWN\n1,2.5,20,UP\n2,-3,30,UP\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_csv(tmp_path: Path) -> None:
    """A CSV file is read in its order; every column but the label and what is dropped is a
    feature."""
    table = read_table(written(tmp_path / "a.csv", CSV), "up", drop=["t"])
    assert table.features == ["price", "volume"]
    assert table.rows.tolist() == [[1.5, 10.0], [2.5, 20.0], [-3.0, 30.0]]
    assert table.rows.dtype == np.float32
    assert table.labels.tolist() == ["DOWN", "UP", "UP"]


def test_parquet(tmp_path: Path) -> None:
    """A Parquet file gives the same as the CSV file with the same rows."""
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"price": [1.5, 2.5], "volume": [10, 20], "up": [0, 1]}), path)
    table = read_table(path, "up")
    assert table.rows.tolist() == [[1.5, 10.0], [2.5, 20.0]]
    assert table.labels.tolist() == [0, 1]


def test_split(tmp_path: Path) -> None:
    """A split keeps the order: the first share, then the rest."""
    head, tail = read_table(written(tmp_path / "a.csv", CSV), "up").split(0.34)
    assert head.labels.tolist() == ["DOWN"]
    assert tail.rows[:, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "label", "drop", "said"),
    [
        (CSV, "down", (), "column 'down'"),
        (CSV, "up", ("x",), "column 'x'"),
        ("a,up\nred,0\nblue,1\n", "up", (), "column 'a'.*string"),
        ("a,up\n1,0\n,1\n", "up", (), "column 'a'.*row 1 is nan"),
        ("a,up\n1,0\n1e300,1\n", "up", (), "column 'a'.*row 1 is inf"),
        ("a,up\n1,0\n2,\n3,1\n", "up", (), "column 'up'.*1 empty"),
        ("up\n0\n1\n", "up", (), "no column besides 'up'"),
        ("a,a,up\n1,2,0\n", "up", (), "repeat"),
        ("", "up", (), "a.csv"),
        ("a,up\n1,0\n1,2,3\n", "up", (), "a.csv"),
    ],
    ids=["no label", "no dropped", "text", "hole", "too large", "no label in a row",
         "label only", "names repeat", "empty file", "ragged"],
)  # fmt: skip
def test_bad_file(tmp_path: Path, text: str, label: str, drop: tuple[str, ...], said: str) -> None:
    """What does not fit is refused with the file or the column, and the row, named."""
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(SettingsError, match=said) as refused:
        read_table(path, label, drop)
    assert str(path) in str(refused.value)


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(SettingsError, match="nowhere"):
        read_table(tmp_path / "nowhere.csv", "up")


def test_broken_parquet(tmp_path: Path) -> None:
    """A file that only is called Parquet is refused by name."""
    with pytest.raises(SettingsError, match=r"a\.parquet"):
        read_table(written(tmp_path / "a.parquet", CSV), "up")


def test_article_rows() -> None:
    """15 % fraud around V14 = -2.5; drift moves V14 of normal rows alone; a seed repeats it."""
    clean = article_rows(4000, 0.0, np.random.default_rng(1))
    drifted = article_rows(4000, 2.2, np.random.default_rng(1))
    v14 = ARTICLE_FEATURES.index("V14")
    assert clean.labels.mean() == 0.15
    for table, normal in ((clean, 0.0), (drifted, -2.2)):
        assert table.rows[table.labels == 1, v14].mean() == pytest.approx(-2.5, abs=0.1)
        assert table.rows[table.labels == 0, v14].mean() == pytest.approx(normal, abs=0.1)
    others = [i for i in range(10) if i != v14]
    assert np.array_equal(clean.rows[:, others], drifted.rows[:, others])
    again = article_rows(4000, 2.2, np.random.default_rng(1))
    assert np.array_equal(again.rows, drifted.rows)
