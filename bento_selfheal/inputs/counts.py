"""What is known of a column's values in training: mean and spread, and how often each occurs."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bento_selfheal.inputs.column import Column, Kind


class Aspect(StrEnum):
    """What of a column is compared."""

    VALUE = "value"
    MISSING = "missing"  # 1 where there is none
    UNSEEN = "unseen"  # 1 where the category was not there in training


class FeatureStatistics(BaseModel):
    """The training data of one sensitive feature, which signals compare new rows with."""

    model_config = ConfigDict(frozen=True)

    feature: str
    mean: float
    std: float
    """Population standard deviation of samples; 0 where the feature was constant."""
    column: str = ""
    """The column that is looked at, where it has another name."""
    of: Aspect = Aspect.VALUE
    counts: tuple[int, ...] = ()
    """Training rows as `counts_of` counts them, where it is no value that is compared; empty where
    an earlier release made the package."""


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
