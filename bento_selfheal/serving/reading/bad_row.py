"""Keeps what one row or request spoils to itself: finds it, and answers the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Predict = Callable[[Any], Any]
Request = TypeVar("Request")
Result = TypeVar("Result")


def find_bad_row(
    predict: Predict, rows: NDArray[np.float32], known_good: NDArray[np.float32]
) -> int | None:
    """The first row on which a model raises, by halving the batch.

    The model is asked for about twice the rows of the batch, in at most ``log2(n) + 3`` calls.

    Args:
        predict: The model; it has raised for these rows.
        rows: ``(n, features)``, at least one.
        known_good: Rows that the model answers as long as it works at all, ``(m, features)``.

    Returns:
        The row's place, or None where the model itself fails: also for rows that it is known to
        answer, or for the batch and for none of its rows alone.
    """
    return None if _raises(predict, known_good) else first_bad(predict, rows)


def by_halves(
    together: Callable[[Sequence[Request]], Sequence[Result]],
    alone: Callable[[Request], Result | Exception],
    requests: Sequence[Request],
) -> list[Result | Exception]:
    """Compute several requests with one call, as long as it does not fail.

    Where it fails, each half is asked by itself, until the one at fault is alone: a heavy model is
    asked as rarely as can be.

    Args:
        together: Computes requests, or raises.
        alone: Computes one, or gives its error.
        requests: At least one.

    Returns:
        The result of each, or its error; one that fails does not spoil the others.
    """
    if len(requests) == 1:
        return [alone(requests[0])]
    try:
        return [*together(requests)]
    except Exception:  # whatever a user's model raises
        half = len(requests) // 2
        return [
            *by_halves(together, alone, requests[:half]),
            *by_halves(together, alone, requests[half:]),
        ]


def first_bad(predict: Predict, rows: NDArray[np.float32] | Sequence[Any]) -> int | None:
    """The first of the rows or inputs on which a model raises, by halving them; None where it
    raises for all of them and for none alone."""
    start, end = 0, len(rows)
    while end - start > 1:
        middle = (start + end) // 2
        if _raises(predict, rows[start:middle]):
            end = middle
        else:
            start = middle
    return start if _raises(predict, rows[start:end]) else None


def _raises(predict: Predict, rows: NDArray[np.float32] | Sequence[Any]) -> bool:
    try:
        predict(rows)
    except Exception:  # whatever a user's model raises
        return True
    return False
