"""What training data look like, for the signals to compare new rows with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.errors import PackageError
from bento_selfheal.inputs.column import ORDERED, Column, Kind
from bento_selfheal.inputs.counts import Aspect, FeatureStatistics, counts_of

LEAST_SHARE = 0.01
"""Of what was never missing or unseen in training: a spread of 0 could not be measured in."""


def calibrate(
    x: NDArray[np.float32],
    features: Sequence[str],
    columns: Sequence[Column],
    sensitive: Sequence[str] | None,
) -> list[FeatureStatistics]:
    """What the signals look at.

    Args:
        x: Training rows, ``(n, features)``.
        features: Names of the columns.
        columns: Their types; none where all are numbers without gaps.
        sensitive: Features to watch; None watches every one that is not constant.

    Raises:
        PackageError: A sensitive feature does not exist.
    """
    watched = list(features) if sensitive is None else list(sensitive)
    unknown = [name for name in watched if name not in features]
    if unknown:
        raise PackageError(f"sensitive: unknown features {unknown}; known: {list(features)}")
    types = {column.name: column for column in columns}
    out: list[FeatureStatistics] = []
    for name in watched:
        codes = x[:, list(features).index(name)].astype(np.float64)
        column = types.get(name)
        if column is None or column.kind in ORDERED:
            usual = _of_numbers(name, codes[~np.isnan(codes)])
            if usual.std > 0 or sensitive is not None:
                out.append(usual)
        if column is not None:
            out.extend(_of_gaps(column, codes))
    return out


def _of_numbers(name: str, codes: NDArray[np.float64]) -> FeatureStatistics:
    if not len(codes):
        return FeatureStatistics(feature=name, mean=0.0, std=0.0)
    std = float(codes.std()) if np.ptp(codes) > 0 else 0.0  # rounding gives a constant one
    return FeatureStatistics(feature=name, mean=float(codes.mean()), std=std)


def _of_gaps(column: Column, codes: NDArray[np.float64]) -> Iterator[FeatureStatistics]:
    """How often a value is missing, or a category was never seen."""
    counts = counts_of(column, codes)
    if column.nullable:
        gaps = (int(counts[:-1].sum()), int(counts[-1]))
        yield _of_share(column, Aspect.MISSING, gaps[1] / len(codes), gaps)
    if column.kind is Kind.CATEGORY:
        unseen = float(counts[-2] / len(codes))
        yield _of_share(column, Aspect.UNSEEN, unseen, tuple(counts.tolist()))


def _of_share(
    column: Column, aspect: Aspect, share: float, counts: tuple[int, ...]
) -> FeatureStatistics:
    spread = min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
    return FeatureStatistics(
        feature=f"{column.name} ({aspect.value})",
        mean=share,
        std=float(np.sqrt(spread * (1 - spread))),
        column=column.name,
        of=aspect,
        counts=counts,
    )
