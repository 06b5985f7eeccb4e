"""What is kept of the inputs of a request for a network."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import png, striped

from bento_selfheal.core.records import RawInput
from bento_selfheal.embedding.images import Images
from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.embedding.source import Source
from bento_selfheal.embedding.tensors import Tensors
from bento_selfheal.embedding.texts import Texts
from bento_selfheal.embedding.values import Values
from bento_selfheal.serving.reading.network_inputs import Asked
from bento_selfheal.serving.reading.raw_inputs import RawInputs

IMAGES, TENSORS = Images(size=(8, 6)), Tensors(shape=(2, 2))


def kept(source: Source, *inputs: Any, share: float = 1.0) -> tuple[RawInput, ...]:
    facts = np.zeros((len(inputs), 0), dtype=np.float32)
    return RawInputs(source, share).of(Asked(inputs, facts))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_images(kind: str, tmp_path: Path) -> None:
    """The bytes of the file, whether they came as such, in base64 or by path."""
    file = png(striped(1)[0][0], kind)
    (tmp_path / "a").write_bytes(file)
    told = base64.b64encode(file).decode()
    ways = file, told, f"data:image/x;base64,{told}", tmp_path / "a"
    assert set(kept(IMAGES, *ways)) == {RawInput(f"image/{kind.lower()}", file)}


def test_pixels() -> None:
    """Pixels of another service are a NumPy file."""
    pixels = np.asarray(striped(1)[0][0])
    [one] = kept(IMAGES, pixels)
    assert one.media_type == "application/x-npy"
    assert (np.load(io.BytesIO(one.body)) == pixels).all()


def test_tensors() -> None:
    """A NumPy file of the type that the network gets, whether lists or an array came."""
    values = [[1, 2], [3, 0.5]]
    for one in kept(TENSORS, values, np.asarray(values, np.float64), np.asarray(values).T.T):
        assert one.media_type == "application/x-npy"
        array = np.load(io.BytesIO(one.body), allow_pickle=False)
        assert array.dtype == np.float32
        assert array.tolist() == values


def test_texts() -> None:
    """UTF-8, as a text of JSON or as bytes."""
    said = "grün \0 雪"
    assert set(kept(Texts(), said, said.encode())) == {RawInput("text/plain", said.encode())}


def test_values() -> None:
    """Any JSON, a large integer and NUL too."""
    value = {"a": [1, None, "\0ü"], "b": 2**80}
    [one] = kept(Values(prepare="m:f"), value)
    assert one.media_type == "application/json"
    assert json.loads(one.body) == value


def test_rows_of_a_table() -> None:
    """Nothing is kept twice: the log has the values."""
    assert kept(TableRows(), np.zeros(3, np.float32)) == ()


def test_a_share() -> None:
    """None at 0, about the share of requests otherwise, each request whole."""
    assert kept(Texts(), "a", share=0.0) == ()
    raw = RawInputs(Texts(), 0.3)
    asked = Asked(["a", "b"], np.zeros((2, 0), dtype=np.float32))
    counts = [len(raw.of(asked)) for _ in range(2000)]
    assert set(counts) == {0, 2}
    assert 0.25 < sum(counts) / 4000 < 0.35


@pytest.mark.parametrize("value", [object(), {1: {2: {3, 4}}}], ids=["an object", "a set"])
def test_what_cannot_be_kept(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and told once, and its request is answered; its content is not in the log."""
    raw = RawInputs(Values(prepare="m:f"), 1.0)
    for _ in range(3):
        assert raw.of(Asked(["secret", value], np.zeros((2, 0), dtype=np.float32))) == ()
    assert caplog.text.count("are not kept") == 1
    assert "secret" not in caplog.text


def test_a_value_too_deep() -> None:
    """A value that JSON read and cannot write is left out."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert kept(Values(prepare="m:f"), deep) == ()
