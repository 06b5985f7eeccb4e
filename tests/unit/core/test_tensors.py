"""Tensors as bytes, and those that are not finite."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load, save

from bento_selfheal.core.tensors import not_finite, to_bytes


def test_to_bytes() -> None:
    """The bytes are those of `safetensors.torch`, whatever the shapes and types."""
    tensors = {
        "scale": torch.tensor(0.1), "none": torch.zeros(0, 5), "places": torch.tensor([3, -1]),
        "again": torch.tensor([True, False]), "sums": torch.eye(3, dtype=torch.float64),
        "bytes": torch.zeros(3, dtype=torch.uint8),
    }  # fmt: skip
    facts = {"selfheal": "{}"}
    assert to_bytes(tensors, facts) == save(tensors, facts)
    column = torch.arange(6.0).reshape(3, 2)[:, 1]
    assert load(to_bytes({"column": column}))["column"].tolist() == [1, 3, 5]


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_not_finite(bad: str) -> None:
    """Those with such a value anywhere are named; large values and whole numbers are finite."""
    largest = torch.full((1000, 10), torch.finfo(torch.float32).max)
    spoilt = torch.zeros(1000)
    spoilt[7] = float(bad)
    both = torch.tensor([float("inf"), float("-inf")])
    tensors = {"largest": largest, "spoilt": spoilt, "places": torch.tensor([2**62]), "both": both}
    assert not_finite(tensors) == ["spoilt", "both"]
