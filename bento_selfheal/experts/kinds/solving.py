"""Sums of rows that fade, and what is solved from them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def fade_in(total: Matrix, fade: float, left: Matrix, right: Matrix) -> None:
    """Fade a sum of products of rows, and add new ones, in place.

    Args:
        total: The sum, ``(a, b)``.
        fade: What is left of it.
        left: Columns of the new rows, ``(n, a)``.
        right: Others, ``(n, b)``.
    """
    total *= fade
    total += left.T @ right


def solved(square: Matrix, ridge: float, right: Matrix) -> Matrix:
    """The solution of a symmetric system, ``(a, b)``.

    Args:
        square: The system, ``(a, a)``.
        ridge: What is added to its diagonal.
        right: Right-hand sides, ``(a, b)``.

    Raises:
        RuntimeError: The system is not positive definite.
    """
    damped = square.copy()
    damped.ravel()[:: len(damped) + 1] += ridge
    try:
        factor = torch.from_numpy(np.linalg.cholesky(damped))
    except np.linalg.LinAlgError as error:
        raise RuntimeError(f"what an expert learned cannot be solved: {error}") from error
    # The other triangle lies in memory as LAPACK wants it.
    out: Matrix = torch.cholesky_solve(torch.from_numpy(right), factor.mT, upper=True).numpy()
    return out
