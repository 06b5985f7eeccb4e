"""How often each value of a column occurs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.inputs.column import Column, Kind


def counts_of(column: Column, codes: NDArray[np.floating]) -> NDArray[np.int64]:
    """Rows with each level of a category, with one that is unknown, and with none,
    ``(levels + 2,)``; of another column, rows with a value and without, ``(2,)``.

    Args:
        column: The column.
        codes: Its codes, ``(n,)``.

    >>> sky = Column(name="sky", kind=Kind.CATEGORY, levels=("clear", "fog"))
    >>> counts_of(sky, np.array([1.0, 1.0, 2.0, np.nan, 0.0])).tolist()
    [1, 2, 1, 1]
    """
    missing = np.isnan(codes)
    last = len(column.levels) if column.kind is Kind.CATEGORY else 0
    places = np.where(missing, last + 1, np.clip(np.nan_to_num(codes), 0, last))
    return np.bincount(places.astype(np.int64), minlength=last + 2)
