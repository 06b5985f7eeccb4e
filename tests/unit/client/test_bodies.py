"""What the client sends: tables as Arrow, arrays and tensors as NumPy files, images, text, JSON."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import subprocess
import sys
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from mixed import COLUMNS, NAMES, flights
from networks import SIDE, png, striped
from PIL import Image
from PIL.ExifTags import Base

from bento_selfheal.client.bodies import JSON, PNG, TEXT, body_of
from bento_selfheal.embedding.images import Images
from bento_selfheal.embedding.packaged import Embedding
from bento_selfheal.embedding.tensors import Tensors
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.errors import InvalidInput
from bento_selfheal.inputs.column import Column, Kind
from bento_selfheal.serving.reading.arrow_rows import rows_of
from bento_selfheal.serving.reading.network_inputs import NetworkInputs
from bento_selfheal.serving.reading.typed_rows import TypedRowReader
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import ARROW, NPY

READER = TypedRowReader(COLUMNS, max_rows=100)


def frames() -> dict[str, Any]:
    """The same flights in each library, with types of its own."""
    rows, _ = flights(9)
    rows[2][3], rows[3][:4], rows[4][4] = "volcanic ash", [None, 1, None, None], None
    given = dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))
    plain = pd.DataFrame(given, index=[f"flight {i}" for i in range(9)])
    own = plain.astype({"speed": "Float64", "engines": "Int64", "at night": "boolean",
                        "sky": "category"})  # fmt: skip
    own["day"] = pd.to_datetime(own["day"]).dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata")
    frame = pl.DataFrame(given)
    day, skies = frame["day"].str.to_date(), {sky for sky in given["sky"] if sky}
    return {
        "json": rows, "arrow": pa.table(given), "batch": pa.RecordBatch.from_pydict(given),
        "pandas": plain, "objects": plain.astype(object), "pandas' own types": own,
        "polars": frame[NAMES[::-1]],
        "categorical": frame.with_columns(day, pl.col("sky").cast(pl.Categorical)),
        "enum": frame.with_columns(
            day.cast(pl.Datetime("ms")), pl.col("sky").cast(pl.Enum(sorted(skies)))
        ),
    }  # fmt: skip


@pytest.mark.parametrize("library", [name for name in frames() if name != "json"])
def test_a_table_of_any_library(library: str) -> None:
    """Gaps, categories and dates as each library has them are the rows that JSON gives; the index
    of pandas stays behind."""
    given = frames()
    expected, _ = READER.read_json(body_of(given["json"]).content) or (None, None)
    body = body_of(given[library])
    assert body.kind == ARROW
    assert np.array_equal(rows_of(READER, body.content)[0], expected, equal_nan=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "Conversion failed for column a"),
        (pd.DataFrame({"c": [1 + 2j]}), "Conversion failed for column c"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "Duplicate column names"),
        (torch.eye(2).to_sparse(), "torch.float32 of layout torch.sparse_coo on cpu has no NumPy"),
        (torch.zeros(2, device="meta"), "on meta has no NumPy array"),
        ([{"a": object()}], "JSON cannot carry <object"),
        (pl.DataFrame({"a": [1]}).lazy(), "JSON cannot carry <LazyFrame"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent(frame: Any, said: str) -> None:
    """It is refused before it is sent, by column where there is one."""
    with pytest.raises(InvalidInput) as refused:
        body_of(frame)
    assert said in str(refused.value)


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    return functools.reduce(lambda one, _: [one], range(depth), list[Any]())


def within_itself() -> list[Any]:
    """Two good rows, and a list in which a dict holds the list."""
    rows: list[Any] = [[1, 2], {"a": [1]}]
    rows.append({"b": [0, rows]})
    return rows


@pytest.mark.parametrize(
    ("rows", "facts", "where", "said"),
    [
        ("ab\ud800c", None, ("rows",), r"character 2 is '\ud800'"),
        (Image.new("RGB", (0, 0)), None, ("rows",), "an image of 0 x 0 pixels cannot be sent"),
        ([Image.new("L", (1, 1)), Image.new("L", (3, 0))], None, ("rows", 1), "3 x 0 pixels"),
        (within_itself(), None, ("rows", 2, "b", 1), "it is a part of itself"),
        ("a text", {"a": within_itself()}, ("facts", "a", 2, "b", 1), "it is a part of itself"),
        ([{(1, 2): 3}], None, ("body",), "JSON cannot carry it: keys must be str"),
        (nested(100_000), None, ("body",), "it is nested too deeply"),
    ],
    ids=["surrogate", "no pixels", "no rows of pixels", "cycle", "cycle of facts", "key", "deep"],
)
def test_the_place_of_what_cannot_be_sent(
    rows: Any, facts: Any, where: tuple[Any, ...], said: str
) -> None:
    """An error of the client names it, before anything is sent."""
    with pytest.raises(InvalidInput) as refused:
        body_of(rows, facts)
    assert refused.value.loc == where
    assert said in refused.value.msg


def test_an_image_that_was_closed() -> None:
    """Its pixels are gone, which is told with its place."""
    file = Image.open(io.BytesIO(png(striped(1)[0][0])))
    file.close()
    with pytest.raises(InvalidInput, match=r"rows\.0: the image cannot be sent: "):
        body_of([file])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64", "uint8"])
def test_tensors_and_arrays(dtype: str) -> None:
    """As a NumPy file, whatever graph a tensor belongs to; bfloat16 becomes float32."""
    tensor = torch.tensor([[1.0, 2.5], [3, 4]]).to(getattr(torch, dtype))
    if tensor.is_floating_point():
        tensor = tensor.requires_grad_() * 1
    body = body_of(tensor)
    found = npy.read(body.content)
    assert (body.kind, found.tolist()) == (NPY, tensor.tolist())
    assert str(found.dtype) == ("float32" if dtype == "bfloat16" else dtype)
    assert body_of(found) == body


def test_values_within_json() -> None:
    """Dates, decimals, gaps, tensors and columns of libraries within lists and dicts."""
    rows = [
        {"a": date(2026, 1, 2), "b": datetime(2026, 1, 2, 3), "c": Decimal("0.5"), "d": pd.NaT},
        [pd.NA, np.float32(0.5), torch.tensor([1, 2]), pd.Series([1, None], dtype="Int64"),
         pl.Series(["x"]), pd.Timestamp("2026-01-02"), torch.tensor(True)],
    ]  # fmt: skip
    assert json.loads(body_of(rows).content)["rows"] == [
        {"a": "2026-01-02", "b": "2026-01-02T03:00:00", "c": 0.5, "d": None},
        [None, 0.5, [1, 2], [1, None], ["x"], "2026-01-02T00:00:00", True],
    ]
    assert json.loads(body_of(np.asarray([[True]])).content) == {"rows": [[True]]}
    assert body_of(["a", "b"]).kind == JSON
    assert body_of("grün") == body_of("grün".encode().decode())
    assert (body_of("grün").kind, body_of("grün").content) == (TEXT, "grün".encode())


def inputs() -> NetworkInputs:
    source = Images(size=(SIDE, SIDE))
    made = Embedding(
        source=source, network="a:b", network_args={}, head="fc", width=2, output="logit"
    )
    return NetworkInputs(made, [], max_rows=10)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "YCbCr", "HSV", "I;16"])
def test_images(mode: str) -> None:
    """One is a PNG, several are a multipart body; the service reads the pixels that there are."""
    image = striped(1)[0][0]
    if mode == "I;16":
        image = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16)) * 257)
    own, reader = image.convert(mode), inputs()
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Make] = 6, "a camera"
    own.info["exif"] = exif.tobytes()
    expected = np.asarray(reader.source.read(own))
    one, two = body_of(own), body_of([own, own])
    assert one.kind == PNG
    assert b"a camera" not in one.content
    for body, count in ((one, 1), (two, 2)):
        asked = asyncio.run(reader.read_body({"content-type": body.kind}, body.content))
        assert asked is not None
        assert len(asked.inputs) == count
        for value in asked.inputs:
            assert np.array_equal(np.asarray(reader.source.read(value)), expected)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["image", "array", "text", "JSON"])
def test_facts(kind: str, several: bool) -> None:
    """They arrive whatever the inputs are sent as, also beyond ASCII."""
    pixels = np.asarray(striped(1)[0][0])
    one = {"image": striped(1)[0][0], "array": pixels[None], "text": "a", "JSON": ["a"]}[kind]
    many = {"image": [one, one], "array": np.stack([pixels] * 2)}.get(kind, ["a", "b"])
    told = [{"city": "Köln"}, {"city": "東京"}] if several else {"city": "Köln"}
    body = body_of(many if several else one, told)
    source = Images(size=(SIDE, SIDE)) if kind == "image" else Texts()
    if kind == "array":
        source = Tensors(shape=pixels.shape, dtype="uint8")
    made = Embedding(
        source=source, network="a:b", network_args={}, head="fc", width=2, output="logit"
    )
    city = Column(name="city", kind=Kind.CATEGORY, levels=("Köln", "東京"))
    reader = NetworkInputs(made, [city], max_rows=10)
    headers = {"content-type": body.kind, **body.headers}
    if body.kind == JSON:
        asked = reader.read_json(body.content)
    else:
        asked = asyncio.run(reader.read_body(headers, body.content))
    assert asked is not None
    assert asked.facts[:, 0].tolist() == ([0.0, 1.0] if several else [0.0])


@pytest.mark.parametrize("kind", ["image", "array", "text"])
def test_facts_that_no_header_holds(kind: str) -> None:
    """They go with the inputs."""
    pixels = np.asarray(striped(1)[0][0])
    one = {"image": striped(1)[0][0], "array": pixels[None], "text": "a"}[kind]
    body = body_of(one, {"city": "x" * 9000})
    assert not body.headers
    assert b"x" * 9000 in body.content


def test_an_opened_file_with_damaged_tags() -> None:
    """Its pixels are sent."""
    file = Image.open(io.BytesIO(png(striped(1)[0][0])))
    file.info["exif"] = b"Exif\0\0MM\0*\xff"
    assert body_of(file).kind == PNG


def test_no_library_is_needed() -> None:
    """Rows as lists are sent without pandas, polars, torch, Pillow or pyarrow."""
    code = (
        "import sys\n"
        "for name in ('pandas', 'polars', 'torch', 'PIL', 'pyarrow'): sys.modules[name] = None\n"
        "from bento_selfheal import AsyncClient, Client\n"
        "from bento_selfheal.client.calls import predict_call\n"
        "import numpy\n"
        "print(*(predict_call(r, known=None).path for r in ([[1, None]], numpy.zeros((1, 2)))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["/predict", "/predict"]


def test_what_numpy_keeps_beside_its_numbers() -> None:
    """Nanoseconds since 1970 are a date and no number, and what is masked is no value."""
    day = np.datetime64("2026-11-28T09:30:00", "ns")
    for rows in ([[day]], np.array([[day]]), [[np.datetime64("NaT", "ns")]]):
        sent = json.loads(body_of(rows).content)["rows"]
        assert sent in ([["2026-11-28T09:30:00"]], [[None]])
    with pytest.raises(InvalidInput, match="masked"):
        body_of(np.ma.masked_array([[1.0, 2.0]], mask=[[False, True]]))
    whole = np.ma.masked_array([[1.0, 2.0]])
    assert body_of(whole).content == body_of(np.array([[1.0, 2.0]])).content
