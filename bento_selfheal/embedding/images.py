"""Inputs that are images."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base
from PIL.Image import Transpose
from pydantic import PositiveFloat, PositiveInt, model_validator

from bento_selfheal.core.records import RawInput
from bento_selfheal.embedding.source import Source
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import NPY

READABLE = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 50_000_000
"""Of an image that is decoded; small files can hold far more."""
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}  # fmt: skip
"""What brings an image upright, by the orientation that its EXIF data tell."""


class Images(Source):
    """PNG, JPEG and WebP: bodies, parts of a multipart body, base64 in JSON; from Python also
    paths, Pillow's images and arrays of bytes ``(height, width, 3)``.

    Every image is turned as its EXIF orientation says, is brought to one size, and becomes
    ``(channels, height, width)``, from 0 to 1, less `mean` and divided by `std`. A function named
    by `prepare` gets Pillow's images of that size.
    """

    kind: Literal["image"] = "image"
    size: tuple[PositiveInt, PositiveInt]
    """Height and width in pixels"""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for red, green and blue"""
    mean: tuple[float, ...] = (0.0,)
    """One for all channels, or one for each."""
    std: tuple[PositiveFloat, ...] = (1.0,)
    """As `mean`."""
    takes_parts: ClassVar[bool] = True
    media_types: ClassVar[tuple[str, ...]] = ("image/png", "image/jpeg", "image/webp")

    @model_validator(mode="after")
    def _each_channel(self) -> Images:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                raise ValueError(f"{name}: one value or {self.channels} are needed, got {values}")
        return self

    def read(self, value: Any) -> Image.Image:
        """An image of this size.

        Raises:
            ValueError: It is none, or not one of the three formats.
        """
        value = _file(value)
        if isinstance(value, bytes):
            return self._decoded(value)
        if isinstance(value, np.ndarray):
            if value.dtype != np.uint8:
                raise ValueError(
                    f"bytes from 0 to 255 are needed, got {value.dtype}; arrays of other numbers "
                    "are Tensors"
                )
            try:
                value = Image.fromarray(value)
            except (TypeError, ValueError) as error:
                shape = value.shape
                raise ValueError(f"bytes (height, width, 3) are needed, got {shape}") from error
        if not isinstance(value, Image.Image):
            raise ValueError(f"an image is needed, got {type(value).__name__}")
        return self._sized(value)

    def raw(self, value: Any) -> RawInput:
        """The bytes of the file; what came as pixels is a NumPy file."""
        value = _file(value)
        if isinstance(value, bytes):
            return RawInput(_media_type(value), value)
        return RawInput(NPY, npy.dump(np.asarray(value)))

    def _decoded(self, body: bytes) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(body), formats=READABLE)
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} by {image.height} pixels are too many")
            return self._sized(image)
        except Image.DecompressionBombError as error:
            raise ValueError(f"the image is too large: {error}") from error
        except UnidentifiedImageError as error:
            raise ValueError(f"a PNG, JPEG or WebP image is needed, got {body[:12]!r}") from error
        except (OSError, SyntaxError) as error:  # as Pillow has it where a file is cut off
            raise ValueError(f"the image cannot be decoded: {error}") from error

    def _sized(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        image = _upright(image)
        if image.mode.startswith("I;16"):  # which Pillow would clip to 255, not scale
            image = Image.fromarray(np.asarray(image) // 257).convert("L")
        own = image.convert("L" if self.channels == 1 else "RGB")
        if own.size != (width, height):
            own = own.resize((width, height), Image.Resampling.BILINEAR)
        return own

    def gather(self, inputs: Sequence[Image.Image]) -> torch.Tensor:
        """The images, ``(n, channels, height, width)``."""
        arrays = np.stack([np.asarray(image) for image in inputs])
        pixels = torch.from_numpy(arrays.reshape(len(inputs), *self.size, self.channels))
        scaled = pixels.permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        return ((scaled - mean) / std).contiguous()


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation wants it shown; what cannot be read says nothing."""
    image.load()  # so that what cannot be decoded is not taken for damaged tags
    try:
        turn = TURNS.get(image.getexif().get(Base.Orientation, 1))
    except Exception:  # Pillow's parser raises many kinds on damaged tags
        turn = None
    # Not `ImageOps.exif_transpose`, which also writes the tags anew: damaged ones would fail.
    return image if turn is None else image.transpose(turn)


def _file(value: Any) -> Any:
    """The bytes of an image that came as base64, or as a path; any other value as it is.

    Raises:
        ValueError: It is no base64, or the file cannot be read.
    """
    if isinstance(value, str):
        try:
            return base64.b64decode(value.partition("base64,")[2] or value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"an image in base64 is needed: {error}") from error
    if isinstance(value, Path):
        try:
            return value.read_bytes()
        except OSError as error:
            raise ValueError(f"the file cannot be read: {error}") from error
    return value


def _media_type(body: bytes) -> str:
    """Of a file that Pillow has read as one of the three."""
    if body.startswith(b"RIFF"):
        return "image/webp"
    return "image/png" if body.startswith(b"\x89PNG") else "image/jpeg"
