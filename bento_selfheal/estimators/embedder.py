"""Turns rows of a table into log odds, by a frozen estimator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bento_selfheal.embedding.rows import TableRows
from bento_selfheal.errors import PackageError
from bento_selfheal.estimators.estimator import Estimator


class OddsEmbedder:
    """A frozen estimator, as requests ask it.

    Log odds stay float32: rounded to float16 they would move a probability by up to 0.001, and rows
    that differ would rank alike.

    Args:
        estimator: The estimator.
        width: How many log odds it gives for a row.
    """

    source = TableRows()

    def __init__(self, estimator: Estimator, width: int) -> None:
        self._estimator = estimator
        self._width = width

    def embed(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Log odds ``(n, width)`` of the codes of rows, ``(columns,)`` each, of one or more.

        Raises:
            PackageError: They are not one for each row, or not finite.
        """
        odds = self._estimator.log_odds(np.stack(inputs))
        if odds.shape != (len(inputs), self._width):
            raise PackageError(
                f"the estimator says {odds.shape} of {len(inputs)} rows, not {self._width} a row"
            )
        if not np.isfinite(odds).all():
            raise PackageError("the estimator's log odds are not finite")
        return odds
