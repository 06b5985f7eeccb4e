"""Training computes in one thread, and leaves the process as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from bento_selfheal.packaging.training import one_thread


def threads() -> list[int]:
    """Those of torch, and of each library of linear algebra."""
    blas = [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]
    return [torch.get_num_threads(), *blas]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_one_thread() -> None:
    """It is so while the block lasts, and no longer, also where the block fails."""
    inside: list[int] = []

    @one_thread()
    def fails() -> None:
        inside.extend(threads())
        raise ValueError("no such row")

    before = threads()
    assert set(before) == {2}
    with pytest.raises(ValueError, match="no such row"):
        fails()
    assert set(inside) == {1}
    assert threads() == before
