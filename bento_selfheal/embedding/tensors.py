"""Inputs that are tensors of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from bento_selfheal.core.records import RawInput
from bento_selfheal.embedding.source import DTYPES, Source
from bento_selfheal.wire import npy
from bento_selfheal.wire.messages import NPY

UNIT, BYTE = 1.0, 255.0
"""Where training values lay within 1, whole numbers up to 255 are bytes that nobody divided."""


class Tensors(Source):
    """Tensors of any shape and type: lists of numbers in JSON, NumPy files, arrays.

    The first axis of a NumPy file counts the inputs.
    """

    kind: Literal["tensor"] = "tensor"
    shape: tuple[int, ...]
    """Of one input"""
    dtype: Literal[
        "float32", "float64", "float16", "bfloat16", "uint8", "int32", "int64", "bool"
    ] = "float32"
    within_one: bool = False
    """Whether the training data lay from -1 to 1."""
    largest: float | None = None
    """Largest magnitude in the training data; None of whole numbers, and in older packages."""
    media_types: ClassVar[tuple[str, ...]] = (NPY,)

    def read(self, value: Any) -> NDArray[Any]:
        """An array of this shape, as float32 where it is of floats.

        Raises:
            ValueError: It has another shape, or a value that is none; the message says which.
        """
        array = _array(value)
        if array.shape != self.shape:
            raise ValueError(f"shape {self.shape} is needed, got {array.shape}")
        whole = self.dtype in ("uint8", "int32", "int64", "bool")
        if array.dtype.kind not in ("biu" if whole else "biuf"):
            raise ValueError(f"{self.dtype} is needed, got {array.dtype}")
        if whole:
            return self._whole(array)
        with np.errstate(over="ignore"):
            out = array.astype(np.float64 if self.dtype == "float64" else np.float32)
        if not np.isfinite(out).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
            raise ValueError(f"finite numbers are needed, got {array[place]} at {list(place)}")
        self._refuse_bytes(array)
        return out

    def _whole(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.dtype == "bool":
            return array.astype(bool)
        known = np.iinfo(self.dtype)
        if array.size and not (known.min <= array.min() and array.max() <= known.max):
            raise ValueError(f"{self.dtype} cannot hold {array.min()} to {array.max()}")
        return array.astype(self.dtype)

    def _refuse_bytes(self, array: NDArray[Any]) -> None:
        most = float(np.abs(array).max(initial=0))
        if self.within_one and UNIT < most <= BYTE and bool((array == np.floor(array)).all()):
            raise ValueError(
                f"values up to {most:g} look like bytes, and training data lay within 1; scale "
                "them as they were in training"
            )

    def raw(self, value: Any) -> RawInput:
        """The array as a NumPy file, of the type that it is read as."""
        return RawInput(NPY, npy.dump(self.read(value)))

    def gather(self, inputs: Sequence[NDArray[Any]]) -> torch.Tensor:
        """The inputs stacked, ``(n, *shape)``."""
        return torch.from_numpy(np.stack(inputs)).to(DTYPES[self.dtype])


def tensors_like(values: NDArray[Any]) -> Tensors:
    """What training inputs ``(n, *shape)`` have in common.

    Raises:
        ValueError: They are no numbers, or have no axis besides that of the inputs.
    """
    name = str(values.dtype)
    if values.ndim < 2 or values.dtype.kind not in "biuf":
        raise ValueError(f"numbers (n, …) are needed, got {name} {values.shape}")
    floats = values.dtype.kind == "f"
    dtype = name if name in DTYPES else "float32" if floats else "int64"
    if floats and not np.isfinite(values).all():
        row = np.argwhere(~np.isfinite(values))[0][0]
        raise ValueError(f"row {row} has a value that is not finite")
    largest = float(np.abs(values).max(initial=0)) if floats else None
    within_one = largest is not None and largest <= UNIT
    return Tensors(shape=values.shape[1:], dtype=dtype, within_one=within_one, largest=largest)


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return np.asarray(value.float() if value.dtype == torch.bfloat16 else value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"numbers in lists of equal length are needed: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"numbers are needed, got {array.dtype}")
    return array
