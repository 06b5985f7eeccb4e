"""Streams: the article's data, and a user's own file read in order or refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from elec2 import CASES, needs_cases

from bento_selfheal.errors import SettingsError
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.inputs.schema import Schema
from bento_selfheal.simulation.streams import (
    ARTICLE_FEATURES,
    LabelPattern,
    Stream,
    article_rows,
    read_table,
)
from bento_selfheal.simulation.table import package_table

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
        ("a,up\n1,0\n1e300,1\n", "up", (), "column 'a'.*row 1 is 1e.300, too large"),
        ("a,up\n1,0\ninf,1\n", "up", (), "column 'a'.*row 1 is inf"),
        ("a,up\n1,\n2,\n3,\n", "up", (), "column 'up': no row has a label"),
        ("a,up\n" + "".join(f"1,{i}.5\n" for i in range(60)), "up", (), "regression target"),
        ("up\n0\n1\n", "up", (), "no column is left besides"),
        ("a,a,up\n1,2,0\n", "up", (), "repeat"),
        ("", "up", (), "a.csv"),
        ("a,up\n1,0\n1,2,3\n", "up", (), "a.csv"),
    ],
    ids=["no label", "no dropped", "too large", "infinite", "no label at all", "quantity",
         "label only", "names repeat", "empty file", "ragged"],
)  # fmt: skip
def test_bad_file(tmp_path: Path, text: str, label: str, drop: tuple[str, ...], said: str) -> None:
    """What does not fit is refused with the file or the column, and the row, named."""
    path = written(tmp_path / "a.csv", text)
    with pytest.raises(SettingsError, match=said) as refused:
        read_table(path, label, drop)
    assert str(path) in str(refused.value)


MIXED = """speed;sky;at;broken;late
150,5;fog;2026-01-01;true;yes
;clear;2026-01-02;false;no
99;fog;?;NA;no
120;hail;2026-01-09;true;yes
"""


def test_mixed(tmp_path: Path) -> None:
    """Gaps, categories, dates, switches and decimal commas are read as what they are."""
    table = read_table(written(tmp_path / "a.csv", MIXED), "late")
    kinds = [column.kind.value for column in table.columns]
    assert kinds == ["number", "category", "datetime", "boolean"]
    assert table.columns[1].levels == ("fog", "clear", "hail")
    told = Schema(table.columns).values(table.rows)
    assert told["speed"] == [150.5, None, 99, 120]
    assert told["sky"] == ["fog", "clear", "fog", "hail"]
    assert told["broken"] == [True, False, None, True]
    assert [day and day.day for day in told["at"]] == [1, 2, None, 9]


def test_levels_of_the_training_part(tmp_path: Path) -> None:
    """A category that comes later than the training part is unseen for its model."""
    head, tail = read_table(written(tmp_path / "a.csv", MIXED), "late").split(0.5)
    assert head.columns[1].levels == ("fog", "clear")
    assert Schema(head.columns).values(tail.rows)["sky"] == ["fog", None]


def test_levels_of_a_schema_are_packaged(tmp_path: Path, home: Path) -> None:
    """Also those that no row has, so that a model that is retrained with the same schema takes the
    place of the one that serves."""
    rows = [{"x": i, "sky": ("fog", "clear")[i % 3 == 0], "up": i % 2} for i in range(60)]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    sky = Column(name="sky", kind=Kind.CATEGORY, nullable=True, levels=("fog", "clear", "hail"))
    (tmp_path / "s.json").write_text(f"[{sky.model_dump_json()}]")
    table = read_table(tmp_path / "a.parquet", "up", schema=tmp_path / "s.json")
    assert package_table("levels", table, 0, None).info.columns == [sky]


@needs_cases
@pytest.mark.parametrize("name", ["empty_label.csv", "nan_label.parquet"])
def test_rows_without_a_label_are_left_out(name: str) -> None:
    """A missing label is no class; how many rows have none is told."""
    table = read_table(CASES / name, "left")
    assert len(table.rows) == len(table.labels) == 110
    assert len(set(table.labels.tolist())) == 2
    assert "10 rows have no 'left': left out" in table.notes


@needs_cases
def test_an_index_is_no_feature() -> None:
    """The nameless row number that a data frame writes is left out."""
    table = read_table(CASES / "index_column.csv", "left")
    assert table.features == ["a", "b", "c"]


def test_large_numbers_keep_their_digits(tmp_path: Path) -> None:
    """Seconds since 1970 stay apart."""
    text = "at,up\n" + "".join(f"{1_795_442_638 + i},{i % 2}\n" for i in range(5))
    table = read_table(written(tmp_path / "a.csv", text), "up")
    assert len(set(table.rows[:, 0].tolist())) == 5


def test_by_a_schema(tmp_path: Path) -> None:
    """With types given, a number may be a category; all columns that do not fit are named."""
    file, schema = written(tmp_path / "a.csv", "x,y,up\n1,7,0\n2,7,1\n1,8,0\n"), tmp_path / "s.json"
    schema.write_text('[{"name": "x", "kind": "category", "levels": ["2", "1"]}]')
    table = read_table(file, "up", schema=schema)
    assert table.features == ["x"]
    assert table.rows[:, 0].tolist() == [1, 0, 1]
    schema.write_text('[{"name": "z"}, {"name": "x"}, {"name": "w"}]')
    with pytest.raises(SettingsError, match="columns 'z', 'w' are not there"):
        read_table(file, "up", schema=schema)
    gaps = written(tmp_path / "b.csv", "x,y,up\n1,red,0\n,7,1\n1,8,0\n")
    schema.write_text('[{"name": "x"}, {"name": "y"}]')
    with pytest.raises(SettingsError, match=r"'x': row 1 is missing.*'y': row 0 is 'red'"):
        read_table(gaps, "up", schema=schema)
    with pytest.raises(SettingsError, match="columns 'no', 'nor' are not there"):
        read_table(file, "no", drop=["nor"])
    schema.write_text('[{"name": "x", "kind": "colour"}]')
    with pytest.raises(SettingsError, match=r"schema: .*s\.json cannot be read"):
        read_table(file, "up", schema=schema)


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


def test_label_pattern() -> None:
    """Labels come for some classes only, never for the one that is unreported, and as late as is
    said of their class; those of new classes come where nothing is chosen."""
    classes = ["ok", "fraud"]
    stream = Stream(np.zeros((4, 1), np.float32), np.array([0, 1, 0, 9]), 100, batch=2)
    pattern = LabelPattern(delays={"fraud": 7}, row_seconds=3.0)
    pattern.check(classes)
    assert pattern.labelled(stream, classes).tolist() == [True] * 4
    assert pattern.delays_of(stream, classes).tolist() == [100, 7, 100, 100]
    assert pattern.timed(stream).seconds == 6.0
    only = LabelPattern(only=("fraud",)).labelled(stream, classes)
    never = LabelPattern(never="ok").labelled(stream, classes)
    assert (only.tolist(), never.tolist()) == (
        [False, True, False, False], [False, True, False, True],
    )  # fmt: skip
    with pytest.raises(SettingsError, match="'grey' is no class"):
        LabelPattern(only=("grey",)).check(classes)
