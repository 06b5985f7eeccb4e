"""Categories as an estimator that was fitted on a data frame counts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.estimator import Estimator
from bento_selfheal.inputs.column import Column, Kind


def as_fitted(
    estimator: Estimator, codes: NDArray[np.float32], columns: Sequence[Column]
) -> tuple[NDArray[np.float32], list[Column]]:
    """Codes and columns with the levels that the estimator was fitted with, in their order.

    A data frame has an order of its own for the categories of a column, and the estimator knows
    them by their places in it. A category that the estimator does not know is unseen.

    Args:
        estimator: It takes as many columns as there are.
        codes: Rows, ``(n, columns)``.
        columns: What the codes stand for.

    Raises:
        PackageError: The estimator has categories where the columns have none, or not text.
    """
    out, named = codes.copy(), list(columns)
    for place, categories in estimator.categories(columns).items():
        column = columns[place]
        if column.kind is not Kind.CATEGORY or not all(isinstance(c, str) for c in categories):
            raise PackageError(
                f"estimator: it was fitted on {column.name!r} as a category of "
                f"{list(categories)[:5]}, and here the column is a {column.kind.value}; make its "
                "categories text in the data frame, and fit it anew"
            )
        levels = tuple(str(category).strip() for category in categories)
        out[:, place] = _recoded(codes[:, place], column.levels, levels)
        named[place] = column.model_copy(update={"levels": levels})
    return out, named


def _recoded(
    codes: NDArray[np.float32], old: Sequence[str], new: Sequence[str]
) -> NDArray[np.float32]:
    """Places among the new levels of places among the old ones; NaN stays."""
    known = {level: place for place, level in enumerate(new)}
    places = np.asarray([*(known.get(level, len(new)) for level in old), len(new)], np.float32)
    out, there = codes.copy(), ~np.isnan(codes)
    out[there] = places[np.minimum(codes[there].astype(np.int64), len(old))]
    return out
