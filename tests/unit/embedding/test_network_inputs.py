"""What a network is asked about: read, or refused with what is needed."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import png, striped
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from pydantic import ValidationError

from bento_selfheal.embedding.images import Images
from bento_selfheal.embedding.tensors import Tensors, tensors_like


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_however_it_comes(channels: Any, tmp_path: Path) -> None:
    """File, bytes, base64, Pillow's image and array: the same pixels, scaled as in training."""
    source = Images(size=(8, 6), channels=channels, mean=(0.5,), std=(0.25,))
    [image], _ = striped(1)
    file = png(image)
    (tmp_path / "a.png").write_bytes(file)
    text = base64.b64encode(file).decode()
    ways = [file, text, f"data:image/png;base64,{text}", image, np.asarray(image),
            tmp_path / "a.png"]  # fmt: skip
    batch = source.gather([source.read(way) for way in ways])
    assert batch.shape == (len(ways), channels, 8, 6)
    assert all(torch.equal(one, batch[0]) for one in batch)
    grey = Image.new("RGBA", (6, 8), (255, 255, 255, 255))
    assert source.gather([source.read(grey)]).unique().tolist() == [2.0]


def test_an_image_of_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that would fill the memory is refused before it is decoded."""
    monkeypatch.setattr("bento_selfheal.embedding.images.MOST_PIXELS", 100)
    with pytest.raises(ValueError, match="12 by 12 pixels are too many"):
        Images(size=(8, 8)).read(png(striped(1)[0][0]))


@pytest.mark.parametrize(
    ("dtype", "value", "why"),
    [
        ("float32", [[1, 2]], r"shape \(2, 2\) is needed, got \(1, 2\)"),
        ("float32", [[1, 2], [3]], "lists of equal length"),
        ("float32", [[1, 2], [3, float("nan")]], r"finite numbers are needed, got nan at \[1, 1\]"),
        ("float32", [[1, 2], [3, 1e39]], r"got 1e\+39 at \[1, 1\]"),
        ("float32", [["a", "b"], ["c", "d"]], "numbers are needed"),
        ("float32", [[0.5, 0.25], [None, 1]], "numbers are needed"),
        ("int64", [[1, 2], [3, 0.5]], "int64 is needed, got float64"),
        ("uint8", [[1, 2], [3, 256]], "uint8 cannot hold 1 to 256"),
    ],
)
def test_what_is_no_such_tensor(dtype: Any, value: Any, why: str) -> None:
    """The message names what is needed and what was given."""
    with pytest.raises(ValueError, match=why):
        Tensors(shape=(2, 2), dtype=dtype).read(value)


def test_bytes_for_a_network_of_fractions() -> None:
    """Pixels from 0 to 255 given to what was trained on 0 to 1 are refused, not answered."""
    source = tensors_like(np.random.default_rng(0).random((5, 2, 2)).astype(np.float32))
    assert source.read([[0, 1], [1, 0]]).tolist() == [[0, 1], [1, 0]]
    assert source.read([[0.5, 1.5], [1, 0]]).max() == 1.5
    with pytest.raises(ValueError, match="values up to 200 look like bytes"):
        source.read([[0, 200], [7, 0]])


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool", "bfloat16"])
def test_a_type_is_kept(dtype: Any) -> None:
    """The network is called with tensors of the type that it was trained on."""
    source = Tensors(shape=(2,), dtype=dtype)
    read = [source.read(torch.tensor([1, 0], dtype=getattr(torch, dtype))), source.read([1, 0])]
    batch = source.gather(read)
    assert batch.dtype == getattr(torch, dtype)
    assert torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_turned_upright(turn: int, kind: str) -> None:
    """The orientation that a camera notes in a file is followed as Pillow's own function does, of
    files and of images opened from them."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :8], pixels[4:, 8:] = (255, 0, 0), (0, 0, 255)
    out, exif = io.BytesIO(), Image.Exif()
    exif[Base.Orientation] = turn
    Image.fromarray(pixels).save(out, kind, exif=exif, quality=100)
    opened = Image.open(io.BytesIO(out.getvalue()))
    upright = ImageOps.exif_transpose(opened).convert("RGB")
    source = Images(size=(upright.height, upright.width))
    for way in (out.getvalue(), opened):
        assert np.array_equal(np.asarray(source.read(way)), np.asarray(upright))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_orientation_says_nothing() -> None:
    """An image whose tags cannot be read is read as it lies."""
    image = striped(1)[0][0]
    for exif in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"x"):
        out = io.BytesIO()
        image.save(out, "PNG", exif=exif)
        read = Images(size=image.size).read(out.getvalue())
        assert np.array_equal(np.asarray(read), np.asarray(image))


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_bomb() -> None:
    """A file that only says it is large is refused by what it says, however large."""
    for side in (8_000, 15_000):
        with pytest.raises(ValueError, match=r"too (many|large)"):
            Images(size=(4, 4)).read(bomb(side))


def test_sixteen_bits() -> None:
    """Grey values of 16 bits are scaled; they would be clipped to white."""
    out = io.BytesIO()
    grey = np.linspace(0, 65535, 16).reshape(4, 4).astype(np.uint16)
    Image.fromarray(grey).save(out, "PNG")
    read = np.asarray(Images(size=(4, 4), channels=1).read(out.getvalue()))
    assert np.array_equal(read, grey // 257)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"size": (0, 4)}, "greater than 0"), ({"std": (0.0,)}, "greater than 0"),
     ({"mean": (1.0, 2.0)}, "one value or 3 are needed")],
)  # fmt: skip
def test_what_is_no_description_of_images(wrong: dict[str, Any], why: str) -> None:
    """It is refused when it is written, not when the first image comes."""
    with pytest.raises(ValidationError, match=why):
        Images(**{"size": (4, 4), **wrong})
