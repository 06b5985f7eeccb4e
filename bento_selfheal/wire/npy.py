"""NumPy's array files as request and answer; a header, which a client repeats, is parsed once."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

HEADERS = 256


def read(body: bytes) -> NDArray[Any]:
    """The array of a ``.npy`` file, without a copy.

    Raises:
        ValueError: It is no such file, is cut short, or holds Python objects.
    """
    if body[:6] != b"\x93NUMPY" or len(body) < 12:
        raise ValueError("this is not a NumPy array file")
    start, size = (10, body[8:10]) if body[6] == 1 else (12, body[8:12])
    end = start + int.from_bytes(size, "little")
    shape, fortran, dtype = _layout(body[:end])
    count = math.prod(shape)
    if len(body) - end != count * dtype.itemsize:
        raise ValueError(
            f"{len(body) - end} bytes of data, but the header announces {count * dtype.itemsize}"
        )
    flat = np.frombuffer(body, dtype, count, end)
    return flat.reshape(shape, order="F" if fortran else "C")


def dump(array: NDArray[Any]) -> bytes:
    """A ``.npy`` file of an array."""
    return _header(array.shape, array.dtype.str) + array.tobytes()


@lru_cache(HEADERS)
def _layout(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        shape, fortran, dtype = _header_in(io.BytesIO(head))
    except ValueError:
        raise
    except Exception as error:  # NumPy reads a Python literal there: it may be wrong in any way
        raise ValueError("the header of the NumPy file cannot be read") from error
    if any(type(n) is not int for n in shape):  # True is a number for Python, and none for NumPy
        raise ValueError("the shape is not of whole numbers")
    if dtype.hasobject:
        raise ValueError("Python objects would have to be unpickled")
    return shape, fortran, dtype


def _header_in(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read_header(file)


@lru_cache(HEADERS)
def _header(shape: tuple[int, ...], descr: str) -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()
