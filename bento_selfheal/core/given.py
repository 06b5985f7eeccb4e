"""What users hand over from Python: tables, columns, tensors and images of other libraries.

They are told by their classes, so that none of these libraries has to be installed or is loaded
before one of its values comes.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table"),
          ("pyarrow", "RecordBatch"))  # fmt: skip
COLUMNS = (("pandas", "Series"), ("pandas", "Index"), ("polars", "Series"), ("pyarrow", "Array"),
           ("pyarrow", "ChunkedArray"))  # fmt: skip
MISSING = ("NAType", "NaTType")
"""Classes of what pandas has for a missing value."""
NUMPY_FLOATS = ("torch.float16", "torch.float32", "torch.float64")


def table_of(value: Any) -> pa.Table | None:
    """A table of pandas, polars or Arrow as one of Arrow; None for anything else.

    The index of pandas is left out: it names rows, and is no column. What pandas takes for missing
    (None, NaN, NaT, NA) is null.

    Raises:
        ValueError: Arrow cannot hold a column, which is named, or two columns share a name.
    """
    if _kinds_of(value).isdisjoint(TABLES):
        return None
    import pyarrow as pa

    try:
        if _is(value, "pandas", "DataFrame"):
            return pa.Table.from_pandas(value, preserve_index=False)
        return value.to_arrow() if _is(value, "polars", "DataFrame") else pa.table(value)
    except Exception as error:  # each library raises its own
        said = "; ".join(str(each) for each in error.args)
        raise ValueError(f"the table cannot be read: {said or type(error).__name__}") from error


def column_of(value: Any) -> pa.ChunkedArray | None:
    """A column of pandas, polars or Arrow as one of Arrow; None for anything else.

    Raises:
        ValueError: Arrow cannot hold it.
    """
    if _kinds_of(value).isdisjoint(COLUMNS):
        return None
    import pyarrow as pa

    try:
        if _is(value, "pyarrow", "ChunkedArray"):
            return value
        own = value.to_arrow() if _is(value, "polars", "Series") else value
        made = pa.array(own, from_pandas=True)
    except Exception as error:  # each library raises its own
        said = "; ".join(str(each) for each in error.args)
        raise ValueError(f"the column cannot be read: {said or type(error).__name__}") from error
    return made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])


def array_of(value: Any) -> NDArray[Any] | None:
    """An array of NumPy or a tensor of torch as an array; None for anything else.

    A tensor may be on any device and belong to a graph; a type that NumPy does not have, such as
    bfloat16, becomes float32, which holds all of its values.

    Raises:
        ValueError: The tensor is sparse, quantized, or has no values; or values are masked.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError("values of an array are masked; give NaN there: array.filled(numpy.nan)")
    if isinstance(value, np.ndarray):
        return value
    if not _is(value, "torch", "Tensor"):
        return None
    try:
        tensor = value.detach().cpu()
        if tensor.is_floating_point() and str(tensor.dtype) not in NUMPY_FLOATS:
            tensor = tensor.float()
        array: NDArray[Any] = tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        what = f"{value.dtype} of layout {value.layout} on {value.device}"
        raise ValueError(f"a tensor {what} has no NumPy array; give a dense one") from error
    return array


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or what pandas has for a missing one."""
    if value is None or type(value).__name__ in MISSING:
        return True
    return isinstance(value, float | np.floating | Decimal) and value != value


def is_image(value: Any) -> bool:
    """Whether a value is an image of Pillow."""
    return _is(value, "PIL", "Image")


def _is(value: Any, library: str, name: str) -> bool:
    """Whether a value is of a class of a library, or of one that is made from it."""
    return (library, name) in _kinds_of(value)


def _kinds_of(value: Any) -> frozenset[tuple[str, str]]:
    kind: Any = type(value)
    return _names_of(kind)


@lru_cache(256)
def _names_of(kind: type) -> frozenset[tuple[str, str]]:
    """The library and the name of a class and of those that it is made from."""
    return frozenset((one.__module__.partition(".")[0], one.__name__) for one in kind.__mro__)
