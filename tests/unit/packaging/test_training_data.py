"""Training data of pandas, polars, Arrow and torch: what the same CSV file gives, or a refusal."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
import torch
from mixed import COLUMNS, NAMES, flights
from networks import HERE, Stripes, packaged_stripes, striped

from bento_selfheal.errors import PackageError, SettingsError
from bento_selfheal.inputs.column import Kind
from bento_selfheal.packaging.build import package_model
from bento_selfheal.packaging.suggest import suggest
from bento_selfheal.packaging.training import Training
from bento_selfheal.packaging.training_data import checked_labels, take
from bento_selfheal.simulation.streams import read_table

ROWS, LATE = flights(60)
ROWS[3], ROWS[4][3] = [None, 2, None, None, None], "NA"
GIVEN = {**dict(zip(NAMES, map(list, zip(*ROWS, strict=True)), strict=True)), "late": LATE}
FRAME = pl.DataFrame(GIVEN)
DAY = FRAME["day"].str.to_date()
PANDAS = pd.DataFrame(GIVEN)
TABLES: dict[str, Any] = {
    "pandas": PANDAS.set_index(pd.Index(range(100, 160), name="flight")),
    "objects": PANDAS.astype(object),
    "pandas' own types": PANDAS.astype({"speed": "Float64", "engines": "Int64", "sky": "category",
                                        "at night": "boolean"}),
    "datetime64": PANDAS.assign(day=pd.to_datetime(PANDAS["day"])),
    "with a zone": PANDAS.assign(day=pd.to_datetime(PANDAS["day"]).dt.tz_localize("UTC")
                                 .dt.tz_convert("America/New_York")),
    "an index in a column": PANDAS.reset_index().rename(columns={"index": "Unnamed: 0"}),
    "polars": FRAME,
    "categorical": FRAME.with_columns(DAY, pl.col("sky").cast(pl.Categorical)),
    "enum": FRAME.with_columns(DAY.cast(pl.Datetime("ms")), pl.col("sky").cast(pl.Enum(
        sorted({sky for sky in GIVEN["sky"] if sky})))),
    "arrow": pa.table(GIVEN),
    "decimal": FRAME.to_arrow().set_column(1, "engines", pa.array(
        [Decimal(n) for n in GIVEN["engines"]], pa.decimal128(9, 2))),
    "dictionary": FRAME.to_arrow().set_column(3, "sky", pa.array(GIVEN["sky"]).dictionary_encode()),
    "dictionary of days": FRAME.to_arrow().set_column(4, "day", DAY.to_arrow().dictionary_encode()),
    "runs": FRAME.to_arrow().set_column(4, "day", pc.run_end_encode(DAY.to_arrow())),
    "timestamp": FRAME.to_arrow().set_column(4, "day", DAY.to_arrow().cast(pa.timestamp("s"))),
    "batch": pa.RecordBatch.from_pydict(GIVEN),
}  # fmt: skip


@pytest.mark.parametrize("library", TABLES)
@pytest.mark.parametrize("beside", [False, True])
def test_a_table_is_what_its_csv_is(library: str, beside: bool, tmp_path: Path) -> None:
    """Columns, codes and labels, by the name of the label's column or with the labels beside."""
    table = TABLES[library]
    pa.csv.write_csv(FRAME.to_arrow(), tmp_path / "a.csv")
    file = read_table(tmp_path / "a.csv", "late")
    labels: Any = "late"
    if beside:
        labels = table["late"]
        own = isinstance(table, pa.RecordBatch | pa.Table)
        table = table.drop_columns(["late"]) if own else table.drop(columns="late") if isinstance(
            table, pd.DataFrame) else table.drop("late")  # fmt: skip
    made = take(table, labels, (), ())
    assert tuple(made.columns) == file.columns
    assert made.features == file.features
    assert np.array_equal(made.rows, file.rows, equal_nan=True)
    assert made.labels.tolist() == file.labels.tolist()


def test_with_types_given() -> None:
    """Columns that are given choose and order those of the table; what they cannot hold is named
    with its row, as are columns that are not there."""
    made = take(FRAME, "late", (), COLUMNS[::-1])
    assert made.features == NAMES[::-1]
    assert np.isnan(made.rows[3]).tolist() == [True, True, True, False, True]
    with pytest.raises(ValueError, match=r"'engines': row 0 is 'x', a whole number is needed"):
        take(PANDAS.assign(engines="x"), "late", (), COLUMNS)
    with pytest.raises(ValueError, match="columns 'a', 'b' are not there"):
        take(PANDAS, "late", ["a", "speed", "b"], ())


def test_rows_without_a_label_are_left_out() -> None:
    """As of a file; with labels beside, the row is named, as the user can see which it is."""
    table = PANDAS.assign(late=[None, *LATE[1:]])
    made = take(table, "late", (), ())
    assert len(made.rows) == len(made.labels) == len(LATE) - 1
    with pytest.raises(ValueError, match="labels: row 0 has none"):
        take(table.drop(columns="late"), table["late"], (), ())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([[1], [2]], "column 'a' has type list"),
        ([b"a", b"b"], "column 'a' has type binary"),
        ([datetime(2026, 1, 1).time(), None], "column 'a' has type time64"),
        (pd.period_range("2026", "2027", freq="Y"), "column 'a' has type extension<pandas.period"),
        ([1, "x"], "Conversion failed for column a"),
        ([1 + 2j, 0], "Conversion failed for column a"),
        ([1e300, 0.0], r"column 'a': row 0 is 1e\+300, too large"),
    ],
)
def test_what_no_input_can_be(values: Any, said: str) -> None:
    """It is refused by the name of its column."""
    with pytest.raises(ValueError, match=said):
        take(pd.DataFrame({"a": values}), [0, 1], (), ())


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([True, False], [True, False]),
        ([Decimal("1"), Decimal("0.0")], [1, 0]),
        ([1.0, 0], [1, 0]),
        (np.asarray([1.0, 0.0], np.float32), [1, 0]),
        (torch.tensor([1, 0]), [1, 0]),
        (torch.tensor([1.0, 0.0], dtype=torch.bfloat16, requires_grad=True), [1, 0]),
        ([torch.tensor(1), np.int8(0)], [1, 0]),
        (pd.Series(["b", "a"], dtype="category"), ["b", "a"]),
        (pd.Series([1, 0], dtype="Int64", index=[7, 3]), [1, 0]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pl.Series(["b", "a"], dtype=pl.Enum(["a", "b"])), ["b", "a"]),
        (pa.array([1, 0]), [1, 0]),
        (pa.chunked_array([["b"], ["a"]]), ["b", "a"]),
        (("b", np.str_("a")), ["b", "a"]),
        (["NA", "DE"], ["NA", "DE"]),
    ],
)
def test_labels(labels: Any, found: list[Any]) -> None:
    """Of a list, an array, a tensor or a column."""
    assert checked_labels(labels).tolist() == found


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, None], "labels: row 1 has none; leave the row out"),
        (["a", float("nan")], "labels: row 1 has none"),
        (np.asarray([0.0, np.nan]), "labels: row 1 has none"),
        (pd.Series([1, None], dtype="Int64"), "labels: row 1 has none"),
        ([pd.NaT, 1], "labels: row 0 has none"),
        ([0.5, 1], "labels: row 0 is 0.5, a number that is not whole; a class is text"),
        ([1, Decimal("0.5")], "labels: row 1 is 0.5, a number that is not whole"),
        ([b"a", b"b"], "labels: row 0 is b'a' of type bytes; a class is text"),
        (np.asarray([b"a", b"b"]), "labels: row 0 is b'a' of type bytes"),
        ([0, date(2026, 1, 1)], r"labels: row 1 is datetime.date\(2026, 1, 1\) of type date"),
        (np.asarray(["2026-01-01", "2026-01-02"], "M8[D]"), "labels: row 0 is datetime.date"),
        ([0, float("inf")], "labels: row 1 is inf"),
        (None, "labels: one for each row is needed, got None"),
        (5, "labels: one for each row is needed, got 5"),
    ],
)
def test_what_is_no_label(labels: Any, said: str) -> None:
    """It is refused with its row and value."""
    with pytest.raises(ValueError, match=said):
        checked_labels(labels)


def test_packaged_from_a_frame(home: Path) -> None:
    """A package of a data frame, of its features by name, and of a tensor; what cannot be used is a
    PackageError."""
    quick = Training(epochs=2)
    made = package_model("frame", PANDAS, "late", training=quick, reference_share=0.2)
    assert [c.kind for c in made.info.columns] == [
        Kind.NUMBER, Kind.NUMBER, Kind.BOOLEAN, Kind.CATEGORY, Kind.DATETIME,
    ]  # fmt: skip
    assert made.info.classes == ["in time", "late"]
    some = ["engines"]
    one = package_model("one", FRAME, FRAME["late"], features=some, training=quick)
    assert (one.info.features, one.info.columns) == (some, [])
    rows = torch.tensor([[float(n)] for n in GIVEN["engines"]], requires_grad=True)
    same = package_model("one", rows, LATE, features=some, training=quick)
    assert np.array_equal(one.reference_rows, same.reference_rows)
    with pytest.raises(PackageError, match="labels: row 0 has none"):
        package_model("one", rows, [None, *LATE[1:]], features=some)
    with pytest.raises(PackageError, match="labels: 'late' is the name of a column, but rows are"):
        package_model("one", rows, "late", features=some)
    with pytest.raises(PackageError, match="column 'later' is not there"):
        package_model("one", PANDAS, "later")


def test_a_network_of_images_and_facts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's images with labels of polars and facts of pandas; tensors with labels of torch."""
    monkeypatch.syspath_prepend(HERE)
    made = packaged_stripes("images")
    assert made.info.classes == ["across", "down", "none"]
    images, labels = striped(60)
    pixels = torch.stack([torch.from_numpy(np.array(image)) for image in images])
    tensors = (pixels.permute(0, 3, 1, 2) / 255).requires_grad_()
    for facts in (pd.DataFrame({"x": range(60)}), {"x": pl.Series(range(60))}):
        own = package_model(
            "tensors", tensors, pl.Series(labels.tolist()), facts=facts, model=Stripes(), head="fc"
        )
        assert own.info.features[-1] == "x"
    with pytest.raises(PackageError, match="facts: a dict of lists by name is needed"):
        package_model("x", tensors, labels, facts=[1], model=Stripes(), head="fc")  # type: ignore[arg-type]


def test_suggestions_from_a_frame() -> None:
    """Columns are taken by name; gaps and labels that are none are refused by name."""
    draw = np.random.default_rng(0)
    x, noise = draw.normal(size=600), draw.normal(size=600)
    frame = pl.DataFrame({"noise": noise, "x": x})
    found = suggest(frame, torch.from_numpy((x > 0).astype(int)), ["x", "noise"])
    assert found.sensitive == ["x"]
    with pytest.raises(SettingsError, match="column 'x': row 0 is missing"):
        suggest(frame.with_columns(x=pl.lit(None)), [0, 1] * 300, ["x"])
    with pytest.raises(SettingsError, match="labels: row 0 has none"):
        suggest(frame, [None] * 600, ["x"])
